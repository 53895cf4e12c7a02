//! TemplateService: specifications to start scans from.

use aegis_mesh::{Code, Error, PageTokens, Result, page_size, principal_of};
use aegis_proto::{
    internal::catalog::v1 as store,
    scan::v1::ScanSpec,
    template::v1::{
        CreateTemplateRequest, CreateTemplateResponse, DeleteTemplateRequest,
        DeleteTemplateResponse, GetTemplateRequest, GetTemplateResponse,
        ListTemplateVersionsRequest, ListTemplateVersionsResponse, ListTemplatesRequest,
        ListTemplatesResponse, Template, UpdateTemplateRequest, UpdateTemplateResponse,
        template_service_server::TemplateService,
    },
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{convert, relay};
use crate::{
    domain::{
        creation, limits,
        template::{PRESETS, TemplateRef, check_name, preset},
        violation::{INVALID_FIELD, Violations},
    },
    templates::{Templates, of_preset, required},
};

const MAX_DISPLAY_NAME: usize = 200;
const MAX_DESCRIPTION: usize = 2_000;
/// A system prompt has 64 KiB at most.
const MAX_SPEC_BYTES: usize = 256 * 1024;

/// Serves TemplateService.
pub(crate) struct TemplateApi {
    templates: Templates,
    tokens: PageTokens,
}

impl TemplateApi {
    pub(crate) fn new(templates: Templates, tokens: PageTokens) -> Self {
        Self { templates, tokens }
    }

    /// The presets, then up to `size` of the catalog's after `after`; one more than `size` when
    /// there are more.
    async fn list(&self, after: Option<String>, size: usize) -> Result<Vec<Template>> {
        let mut found = match after {
            Some(_) => Vec::new(),
            None => PRESETS.iter().map(of_preset).collect::<Result<_>>()?,
        };
        let rest = (size + 1).saturating_sub(found.len());
        if rest > 0 {
            let request = store::ListTemplatesRequest {
                limit: i32::try_from(rest).map_err(Error::internal)?,
                after: after
                    .filter(|name| preset(name).is_none())
                    .unwrap_or_default(),
            };
            let answer = self.templates.store().list_templates(request).await?;
            found.extend(answer.into_inner().templates);
        }
        Ok(found)
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl TemplateService for TemplateApi {
    async fn create_template(
        &self,
        request: Request<CreateTemplateRequest>,
    ) -> Reply<CreateTemplateResponse> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check_name("name", &request.name, &mut violations);
        texts(
            Some(&request.display_name),
            Some(&request.description),
            &mut violations,
        );
        check_spec(request.spec.as_ref(), &mut violations);
        violations.into_result()?;
        if preset(&request.name).is_some() {
            return Err(taken_by_preset(&request.name).into());
        }
        let request = store::CreateTemplateRequest {
            template: Some(request),
        };
        let answer = self.templates.store().create_template(request).await;
        let template = required(answer.map_err(relay)?.into_inner().template)?;
        Ok(Response::new(CreateTemplateResponse {
            template: Some(template),
        }))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Reply<GetTemplateResponse> {
        let GetTemplateRequest { name, version } = request.into_inner();
        let mut violations = Violations::new();
        check_name("name", &name, &mut violations);
        super::check::not_negative("version", version.into(), &mut violations);
        violations.into_result()?;
        let version = Some(version).filter(|version| *version > 0);
        let template = Some(self.templates.get(&TemplateRef { name, version }).await?);
        Ok(Response::new(GetTemplateResponse { template }))
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Reply<ListTemplatesResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let size = page_size(request.page_size)? as usize;
        let list = ("ListTemplates", &project);
        let after: Option<String> = self.tokens.decode(&list, &request.page_token)?;
        let mut templates = match after {
            // A page that ended among the presets goes on there.
            Some(after) if preset(&after).is_some() => {
                let mut rest = self.list(None, size + PRESETS.len()).await?;
                rest.retain(|one| !one.preset || one.name > after);
                rest
            }
            after => self.list(after, size).await?,
        };
        let more = templates.len() > size;
        templates.truncate(size);
        let next_page_token = match templates.last() {
            Some(last) if more => self.tokens.encode(&list, &last.name)?,
            _ => String::new(),
        };
        Ok(Response::new(ListTemplatesResponse {
            templates,
            next_page_token,
        }))
    }

    async fn list_template_versions(
        &self,
        request: Request<ListTemplateVersionsRequest>,
    ) -> Reply<ListTemplateVersionsResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let mut violations = Violations::new();
        check_name("name", &request.name, &mut violations);
        violations.into_result()?;
        if let Some(preset) = preset(&request.name) {
            return Ok(Response::new(ListTemplateVersionsResponse {
                templates: vec![of_preset(preset)?],
                next_page_token: String::new(),
            }));
        }
        let size = page_size(request.page_size)?;
        let list = ("ListTemplateVersions", &project, &request.name);
        let before: Option<i32> = self.tokens.decode(&list, &request.page_token)?;
        let asked = store::ListTemplateVersionsRequest {
            name: request.name.clone(),
            // At most 1,001.
            limit: size as i32 + 1,
            before: before.unwrap_or(0),
        };
        let answer = self.templates.store().list_template_versions(asked).await;
        let mut templates = answer.map_err(relay)?.into_inner().templates;
        let more = templates.len() > size as usize;
        templates.truncate(size as usize);
        let next_page_token = match templates.last() {
            Some(last) if more => self.tokens.encode(&list, &last.version)?,
            _ => String::new(),
        };
        Ok(Response::new(ListTemplateVersionsResponse {
            templates,
            next_page_token,
        }))
    }

    async fn update_template(
        &self,
        request: Request<UpdateTemplateRequest>,
    ) -> Reply<UpdateTemplateResponse> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check_name("name", &request.name, &mut violations);
        texts(
            request.display_name.as_ref(),
            request.description.as_ref(),
            &mut violations,
        );
        check_spec(request.spec.as_ref(), &mut violations);
        if request.etag.is_empty() {
            let hint = "send the etag that GetTemplate gave: nobody else's change is lost then";
            violations.add_with_hint("etag", INVALID_FIELD, "must be set", hint);
        }
        violations.into_result()?;
        refuse_preset(&request.name)?;
        let request = store::UpdateTemplateRequest {
            change: Some(request),
        };
        let answer = self.templates.store().update_template(request).await;
        let template = required(answer.map_err(relay)?.into_inner().template)?;
        Ok(Response::new(UpdateTemplateResponse {
            template: Some(template),
        }))
    }

    async fn delete_template(
        &self,
        request: Request<DeleteTemplateRequest>,
    ) -> Reply<DeleteTemplateResponse> {
        let DeleteTemplateRequest { name, etag } = request.into_inner();
        let mut violations = Violations::new();
        check_name("name", &name, &mut violations);
        violations.into_result()?;
        refuse_preset(&name)?;
        let request = store::DeleteTemplateRequest { name, etag };
        let answer = self.templates.store().delete_template(request).await;
        answer.map_err(relay)?;
        Ok(Response::new(DeleteTemplateResponse {}))
    }
}

fn texts(display_name: Option<&String>, description: Option<&String>, violations: &mut Violations) {
    if let Some(text) = display_name {
        creation::text("display_name", text, MAX_DISPLAY_NAME, violations);
    }
    if let Some(text) = description {
        // Lines are fine.
        let text = text.replace('\n', " ");
        creation::text("description", &text, MAX_DESCRIPTION, violations);
    }
}

/// What can be judged of a part of a specification, with no catalogue: names of probes are judged
/// when a scan is planned, by the garak that is there then.
fn check_spec(spec: Option<&ScanSpec>, violations: &mut Violations) {
    let Some(spec) = spec else { return };
    if spec.encoded_len() > MAX_SPEC_BYTES {
        violations.add("spec", INVALID_FIELD, "must be at most 256 KiB");
        return;
    }
    limits::check(&convert::spec(spec, violations), violations);
}

fn refuse_preset(name: &str) -> Result<()> {
    if preset(name).is_none() {
        return Ok(());
    }
    let message = format!("{name} comes with Aegis and cannot be changed or deleted");
    Err(Error::failed_precondition("TEMPLATE_PRESET", message)
        .with("name", name)
        .hint("make a template of another name from its spec"))
}

fn taken_by_preset(name: &str) -> Error {
    let message = format!("{name} is the name of a template that comes with Aegis");
    Error::new(Code::AlreadyExists, "TEMPLATE_EXISTS", message)
        .field("name", "is taken")
        .with("name", name)
        .hint("choose another name")
}
