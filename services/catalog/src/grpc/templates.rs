//! TemplateStoreService: the rows of templates.

use aegis_mesh::{Error, Result, principal_of};
use aegis_proto::{
    internal::catalog::v1::{
        CreateTemplateRequest, CreateTemplateResponse, DeleteTemplateRequest,
        DeleteTemplateResponse, GetTemplateRequest, GetTemplateResponse,
        ListTemplateVersionsRequest, ListTemplateVersionsResponse, ListTemplatesRequest,
        ListTemplatesResponse, UpdateTemplateRequest, UpdateTemplateResponse,
        template_store_service_server::TemplateStoreService,
    },
    scan::v1::ScanSpec,
    template::v1 as proto,
};
use tonic::{Request, Response, Status};

use super::{
    check,
    scans::spec_json,
    view::{self, timestamp},
};
use crate::{
    domain::{
        refusal::invalid_field,
        template::{NewTemplate, Template, TemplateChange},
    },
    store::Store,
};

/// TemplateStoreService on a store.
pub(crate) struct Templates {
    pub(crate) store: Store,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl TemplateStoreService for Templates {
    async fn create_template(
        &self,
        request: Request<CreateTemplateRequest>,
    ) -> Reply<CreateTemplateResponse> {
        let principal = principal_of(&request)?;
        let new = request.into_inner().template;
        let new = new.ok_or_else(|| invalid_field("template", "must be set"))?;
        let new = NewTemplate {
            name: name(&new.name)?,
            display_name: check::optional("display_name", &new.display_name, 200)?,
            description: check::optional("description", &new.description, 2_000)?,
            spec: spec(&new.spec.unwrap_or_default())?,
            created_by: principal.subject,
        };
        let made = self.store.create_template(&principal.project, &new).await?;
        let template = Some(template(made)?);
        Ok(Response::new(CreateTemplateResponse { template }))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Reply<GetTemplateResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let name = name(&request.name)?;
        let version = number("version", request.version)?;
        let found = self.store.template(&project, &name, version).await?;
        let template = Some(template(found)?);
        Ok(Response::new(GetTemplateResponse { template }))
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Reply<ListTemplatesResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let after = check::optional("after", &request.after, 63)?;
        let found = self
            .store
            .templates(&project, &after, limit(request.limit)?)
            .await?;
        let templates = found.into_iter().map(template).collect::<Result<_>>()?;
        Ok(Response::new(ListTemplatesResponse { templates }))
    }

    async fn list_template_versions(
        &self,
        request: Request<ListTemplateVersionsRequest>,
    ) -> Reply<ListTemplateVersionsResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let name = name(&request.name)?;
        let before = number("before", request.before)?;
        let limit = limit(request.limit)?;
        let found = self
            .store
            .template_versions(&project, &name, before, limit)
            .await?;
        let templates = found.into_iter().map(template).collect::<Result<_>>()?;
        Ok(Response::new(ListTemplateVersionsResponse { templates }))
    }

    async fn update_template(
        &self,
        request: Request<UpdateTemplateRequest>,
    ) -> Reply<UpdateTemplateResponse> {
        let project = principal_of(&request)?.project;
        let asked = request.into_inner().change;
        let asked = asked.ok_or_else(|| invalid_field("change", "must be set"))?;
        let name = name(&asked.name)?;
        let etag = check::required("etag", &asked.etag, 64)?;
        let text = |field: &str, text: Option<String>, most| {
            text.map(|text| check::optional(field, &text, most))
                .transpose()
        };
        let change = TemplateChange {
            display_name: text("display_name", asked.display_name, 200)?,
            description: text("description", asked.description, 2_000)?,
            spec: asked.spec.as_ref().map(spec).transpose()?,
        };
        let made = self
            .store
            .update_template(&project, &name, &change, &etag)
            .await?;
        let template = Some(template(made)?);
        Ok(Response::new(UpdateTemplateResponse { template }))
    }

    async fn delete_template(
        &self,
        request: Request<DeleteTemplateRequest>,
    ) -> Reply<DeleteTemplateResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let name = name(&request.name)?;
        let etag = check::optional("etag", &request.etag, 64)?;
        self.store.delete_template(&project, &name, &etag).await?;
        Ok(Response::new(DeleteTemplateResponse {}))
    }
}

fn name(name: &str) -> Result<String> {
    check::required("name", name, 63)
}

fn spec(spec: &ScanSpec) -> Result<serde_json::Value> {
    spec_json(spec)
}

fn limit(limit: i32) -> Result<u32> {
    Ok(check::within("limit", limit, 1..=1_001)?.unsigned_abs())
}

/// 0 stands for none.
fn number(field: &str, number: i32) -> Result<Option<i32>> {
    let number = check::within(field, number, 0..=i32::MAX)?;
    Ok(Some(number).filter(|number| *number > 0))
}

fn template(template: Template) -> Result<proto::Template, Error> {
    Ok(proto::Template {
        etag: template.etag(),
        spec: Some(view::spec(template.spec)?),
        name: template.name,
        display_name: template.display_name,
        description: template.description,
        version: template.version,
        preset: false,
        created_by: template.created_by,
        create_time: Some(timestamp(template.created_at)),
        update_time: Some(timestamp(template.updated_at)),
    })
}
