//! The templates that there are: those that come with Aegis, and those that the catalog keeps.

use aegis_mesh::{Code, Error, MeshChannel, Result};
use aegis_proto::{
    internal::catalog::v1::{
        self as store, template_store_service_client::TemplateStoreServiceClient,
    },
    json::from_json,
    overlay::overlay,
    scan::v1::ScanSpec,
    template::v1::Template,
};

use crate::domain::template::{Preset, TemplateRef, preset};

/// Templates by name.
#[derive(Clone)]
pub(crate) struct Templates {
    store: TemplateStoreServiceClient<MeshChannel>,
}

impl Templates {
    pub(crate) fn new(store: TemplateStoreServiceClient<MeshChannel>) -> Self {
        Self { store }
    }

    /// The client of those that the catalog keeps.
    pub(crate) fn store(&self) -> TemplateStoreServiceClient<MeshChannel> {
        self.store.clone()
    }

    /// The template that this names.
    ///
    /// # Errors
    /// NOT_FOUND / TEMPLATE_NOT_FOUND.
    pub(crate) async fn get(&self, wanted: &TemplateRef) -> Result<Template> {
        if let Some(preset) = preset(&wanted.name) {
            return match wanted.version {
                None => of_preset(preset),
                Some(version) if version == preset.version => of_preset(preset),
                Some(_) => Err(no_such_preset_version(preset)),
            };
        }
        let request = store::GetTemplateRequest {
            name: wanted.name.clone(),
            version: wanted.version.unwrap_or(0),
        };
        let answer = self.store().get_template(request).await?;
        required(answer.into_inner().template)
    }

    /// `spec` laid over the template that a request names, and that template.
    ///
    /// # Errors
    /// As [`Templates::get`], naming the field.
    pub(crate) async fn apply(
        &self,
        wanted: Option<&TemplateRef>,
        spec: ScanSpec,
    ) -> Result<(ScanSpec, Option<Template>)> {
        let Some(wanted) = wanted else {
            return Ok((spec, None));
        };
        let found = self.get(wanted).await;
        let template = found.map_err(|error| match error.code() {
            Code::NotFound => error.field("template", format!("there is no {wanted}")),
            _ => error,
        })?;
        let base = template.spec.clone().unwrap_or_default();
        let spec = overlay(&base, &spec).map_err(Error::internal)?;
        Ok((spec, Some(template)))
    }
}

/// A preset as everybody sees templates.
///
/// # Errors
/// INTERNAL when its specification is none: a test sees to it that it is.
pub(crate) fn of_preset(preset: &Preset) -> Result<Template> {
    let json = serde_json::from_str(preset.spec).map_err(Error::internal)?;
    Ok(Template {
        name: preset.name.to_owned(),
        display_name: preset.display_name.to_owned(),
        description: preset.description.to_owned(),
        spec: Some(from_json(json).map_err(Error::internal)?),
        version: preset.version,
        preset: true,
        etag: format!("preset-{}", preset.version),
        ..Template::default()
    })
}

pub(crate) fn required(template: Option<Template>) -> Result<Template, Error> {
    template.ok_or_else(|| Error::internal("catalog answered without the template"))
}

fn no_such_preset_version(preset: &Preset) -> Error {
    let message = format!(
        "the preset {} comes in version {} only",
        preset.name, preset.version
    );
    Error::new(Code::NotFound, "TEMPLATE_NOT_FOUND", message).with("name", preset.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::PRESETS;

    #[test]
    fn every_preset_is_a_specification() {
        for preset in PRESETS {
            let template = of_preset(&preset).unwrap();
            let spec = template.spec.unwrap();
            assert!(!spec.include.is_empty(), "{}", preset.name);
            assert!(spec.generations.is_some(), "{}", preset.name);
        }
    }
}
