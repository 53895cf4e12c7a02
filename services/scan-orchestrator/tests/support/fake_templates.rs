//! The **fake** catalog's templates: versions in a list. What it refuses is the real one's to show.

use aegis_mesh::{Code, Error};
use aegis_proto::{
    internal::catalog::v1::{
        CreateTemplateRequest, CreateTemplateResponse, DeleteTemplateRequest,
        DeleteTemplateResponse, GetTemplateRequest, GetTemplateResponse,
        ListTemplateVersionsRequest, ListTemplateVersionsResponse, ListTemplatesRequest,
        ListTemplatesResponse, UpdateTemplateRequest, UpdateTemplateResponse,
        template_store_service_server::TemplateStoreService,
    },
    template::v1::Template,
};
use tonic::{Request, Response, Status};

use super::Fake;

type Reply<T> = Result<Response<T>, Status>;

impl Fake {
    /// The newest version, or this one.
    fn template(&self, name: &str, version: i32) -> Result<Template, Status> {
        let seen = self.seen();
        let mut versions = seen.templates.iter().filter(|one| one.name == name);
        let found = match version {
            0 => versions.next_back(),
            version => versions.find(|one| one.version == version),
        };
        let missing = || Error::new(Code::NotFound, "TEMPLATE_NOT_FOUND", "none").into();
        found.cloned().ok_or_else(missing)
    }
}

#[tonic::async_trait]
impl TemplateStoreService for Fake {
    async fn create_template(
        &self,
        request: Request<CreateTemplateRequest>,
    ) -> Reply<CreateTemplateResponse> {
        let new = request.into_inner().template.unwrap_or_default();
        let template = Template {
            name: new.name,
            display_name: new.display_name,
            description: new.description,
            spec: new.spec,
            version: 1,
            etag: "v1".to_owned(),
            ..Template::default()
        };
        self.seen().templates.push(template.clone());
        let template = Some(template);
        Ok(Response::new(CreateTemplateResponse { template }))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Reply<GetTemplateResponse> {
        let request = request.into_inner();
        let template = Some(self.template(&request.name, request.version)?);
        Ok(Response::new(GetTemplateResponse { template }))
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Reply<ListTemplatesResponse> {
        let request = request.into_inner();
        let mut templates = self.seen().templates.clone();
        templates.retain(|one| one.version == 1 && one.name > request.after);
        templates.sort_by(|one, other| one.name.cmp(&other.name));
        templates.truncate(request.limit as usize);
        Ok(Response::new(ListTemplatesResponse { templates }))
    }

    async fn list_template_versions(
        &self,
        request: Request<ListTemplateVersionsRequest>,
    ) -> Reply<ListTemplateVersionsResponse> {
        let request = request.into_inner();
        let mut templates = self.seen().templates.clone();
        let before = |version| request.before == 0 || version < request.before;
        templates.retain(|one| one.name == request.name && before(one.version));
        templates.reverse();
        templates.truncate(request.limit as usize);
        Ok(Response::new(ListTemplateVersionsResponse { templates }))
    }

    async fn update_template(
        &self,
        request: Request<UpdateTemplateRequest>,
    ) -> Reply<UpdateTemplateResponse> {
        let change = request.into_inner().change.unwrap_or_default();
        let mut template = self.template(&change.name, 0)?;
        template.version += 1;
        template.spec = change.spec.or(template.spec);
        self.seen().templates.push(template.clone());
        let template = Some(template);
        Ok(Response::new(UpdateTemplateResponse { template }))
    }

    async fn delete_template(
        &self,
        request: Request<DeleteTemplateRequest>,
    ) -> Reply<DeleteTemplateResponse> {
        let name = request.into_inner().name;
        self.template(&name, 0)?;
        self.seen().templates.retain(|one| one.name != name);
        Ok(Response::new(DeleteTemplateResponse {}))
    }
}
