//! Templates: `config_templates/*.json` and rows of `config_templates`.

use std::path::Path;

use aegis_mesh::{Code, Error, RetryPolicy, retry};
use aegis_proto::{
    scan::v1::ScanSpec,
    template::v1::{
        CreateTemplateRequest, GetTemplateRequest, ListTemplateVersionsRequest, Template,
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    content::Content,
    credential,
    database::Row,
    journal::{Done, Failure, Kind, Outcome, Refusal},
    made_or_there,
    names::{clean, marked, slug},
    options,
};
use crate::client::Client;

/// Largest file of a template.
const MAX_BYTES: u64 = 1 << 20;
/// Versions that are looked through for what was imported before.
const MAX_VERSIONS: i32 = 1000;
const MAX_DISPLAY_NAME: usize = 200;
const MAX_DESCRIPTION: usize = 2000;
const MAX_NAME: usize = 63;

/// A template as the old system had it.
#[derive(Debug, Deserialize)]
pub(super) struct OldTemplate {
    name: String,
    #[serde(default)]
    description: Option<String>,
    config: Map<String, Value>,
}

impl OldTemplate {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// A template of a file; a text of why it is none.
pub(super) async fn of_file(path: &Path) -> Result<OldTemplate, Refusal> {
    let bytes = small_file(path, MAX_BYTES).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new("TEMPLATE_MALFORMED", error.to_string()))
}

/// A small file whole.
pub(super) async fn small_file(path: &Path, most: u64) -> Result<Vec<u8>, Refusal> {
    let mut opened = Content::File(path.to_owned()).open().await?;
    if opened.size > most {
        let message = format!("has {} bytes, more than {most}", opened.size);
        return Err(Refusal::new("FILE_TOO_LARGE", message));
    }
    let size = opened.size;
    Ok(opened.piece(0, size).await?)
}

/// A template of a row.
pub(super) fn of_row(row: &Row) -> Result<OldTemplate, Refusal> {
    let config = serde_json::from_str(row.text("config_json"));
    let config = config
        .map_err(|error| Refusal::new("TEMPLATE_MALFORMED", format!("config_json: {error}")))?;
    Ok(OldTemplate {
        name: row.text("name").to_owned(),
        description: Some(row.text("description").to_owned()),
        config,
    })
}

/// Takes one template in.
pub(super) async fn import(
    client: &Client,
    dry_run: bool,
    source: String,
    old: Result<OldTemplate, Refusal>,
) -> Done {
    let mut done = Done {
        kind: Kind::Template,
        source,
        outcome: Ok(Outcome::Unchanged),
        left_out: Vec::new(),
        warnings: Vec::new(),
    };
    done.outcome = match old {
        Ok(old) => try_import(client, dry_run, old, &mut done).await,
        Err(refusal) => Err(refusal.into()),
    };
    done
}

async fn try_import(
    client: &Client,
    dry_run: bool,
    old: OldTemplate,
    done: &mut Done,
) -> Result<Outcome, Failure> {
    let (spec, left_out) = options::spec(old.config);
    done.left_out = left_out;
    let name = clean(&old.name, MAX_DISPLAY_NAME).replace('\n', " ");
    let description = credential::masked(&old.description.unwrap_or_default());
    let mut wanted = CreateTemplateRequest {
        name: String::new(),
        display_name: name.clone(),
        description: clean(&description, MAX_DESCRIPTION),
        spec: Some(spec),
    };
    let plain = slug(&name, '-', MAX_NAME);
    for candidate in [plain.clone(), marked(&plain, '-', &name, MAX_NAME)] {
        wanted.name = candidate.clone();
        match look(client, &wanted).await? {
            There::Same => return Ok(Outcome::Unchanged),
            There::Other => continue,
            There::Changed => {
                let message = format!(
                    "the template {candidate} is there with another content; it stays as it is"
                );
                return Err(Refusal::new("TEMPLATE_EXISTS", message).into());
            }
            There::Nothing => {}
        }
        if candidate != name {
            done.warnings.push(format!("its name here is {candidate}"));
        }
        if !dry_run {
            create(client, &wanted).await?;
        }
        return Ok(Outcome::Imported);
    }
    let message = format!("the names that it could have are taken, such as {plain}");
    Err(Refusal::new("TEMPLATE_EXISTS", message).into())
}

/// What there is of a name.
enum There {
    Nothing,
    /// Imported before; perhaps changed since.
    Same,
    /// Of the same name for people, and never what is to be imported.
    Changed,
    Other,
}

async fn look(client: &Client, wanted: &CreateTemplateRequest) -> Result<There, Error> {
    let there = retry(RetryPolicy::default(), || async {
        let name = wanted.name.clone();
        let request = GetTemplateRequest { name, version: 0 };
        let answer = client.templates().get_template(request).await?;
        Ok(answer.into_inner().template)
    });
    let there = match there.await {
        Err(error) if error.code() == Code::NotFound => return Ok(There::Nothing),
        there => there?.unwrap_or_default(),
    };
    if there.preset {
        return Ok(There::Other);
    }
    if is_same(&there, wanted)
        || versions(client, &wanted.name)
            .await?
            .iter()
            .any(|one| is_same(one, wanted))
    {
        return Ok(There::Same);
    }
    Ok(match there.display_name == wanted.display_name {
        true => There::Changed,
        false => There::Other,
    })
}

fn is_same(one: &Template, wanted: &CreateTemplateRequest) -> bool {
    let empty = ScanSpec::default();
    one.display_name == wanted.display_name
        && one.description == wanted.description
        && one.spec.as_ref().unwrap_or(&empty) == wanted.spec.as_ref().unwrap_or(&empty)
}

async fn versions(client: &Client, name: &str) -> Result<Vec<Template>, Error> {
    retry(RetryPolicy::default(), || async {
        let request = ListTemplateVersionsRequest {
            name: name.to_owned(),
            page_size: MAX_VERSIONS,
            page_token: String::new(),
        };
        let answer = client.templates().list_template_versions(request).await?;
        Ok(answer.into_inner().templates)
    })
    .await
}

async fn create(client: &Client, wanted: &CreateTemplateRequest) -> Result<(), Error> {
    retry(RetryPolicy::default(), || async {
        let made = client.templates().create_template(wanted.clone()).await;
        made_or_there(made, async {
            Ok(matches!(look(client, wanted).await?, There::Same))
        })
        .await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_a_template_or_says_why_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"name": "A", "description": null, "config": {"probes": ["dan"]},
                       "created_at": "2024-05-01T10:00:00", "updated_at": "x"}"#;
        std::fs::write(file.path(), text).unwrap();
        let template = of_file(file.path()).await.unwrap();
        assert_eq!((template.name.as_str(), template.config.len()), ("A", 1));
        for broken in [
            "",
            "{",
            r#"{"name": "A"}"#,
            r#"{"name": "A", "config": []}"#,
        ] {
            std::fs::write(file.path(), broken).unwrap();
            let refusal = of_file(file.path()).await.unwrap_err();
            assert_eq!(refusal.reason, "TEMPLATE_MALFORMED", "{broken}");
        }
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(
            of_file(file.path()).await.unwrap_err().reason,
            "FILE_TOO_LARGE"
        );
    }

    #[test]
    fn a_row_is_a_template_or_says_why_not() {
        let row = |config: &str| {
            Row([("name", "A".to_owned()), ("config_json", config.to_owned())].into())
        };
        assert_eq!(of_row(&row(r#"{"seed": 1}"#)).unwrap().config.len(), 1);
        assert!(
            of_row(&row("NULL"))
                .unwrap_err()
                .message
                .contains("config_json")
        );
    }
}
