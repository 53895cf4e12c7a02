//! Custom probes: `custom_probes/*.py` with what `metadata.json` or rows of `custom_probes` say of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use aegis_mesh::{Code, Error, RetryPolicy, retry};
use aegis_proto::probe::v1::{
    CreateCustomProbeRequest, CustomProbe, GetCustomProbeRequest, ListCustomProbeVersionsRequest,
};
use aegis_scan_orchestrator::domain::custom::wrong_name;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    credential,
    database::Row,
    journal::{Done, Failure, Kind, Outcome, Refusal},
    made_or_there,
    names::{clean, marked, slug},
    templates::small_file,
};
use crate::client::Client;

/// Largest source that Aegis keeps.
const MAX_SOURCE_BYTES: u64 = 256 << 10;
const MAX_LIST_BYTES: u64 = 16 << 20;
const MAX_VERSIONS: i32 = 1000;
const MAX_DESCRIPTION: usize = 2000;
const MAX_NAME: usize = 63;

/// What the old system knew of a probe.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct About {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    goal: Option<String>,
    /// Absolute, on the old machine.
    #[serde(default)]
    file_path: String,
}

#[derive(Deserialize)]
struct List {
    probes: BTreeMap<String, About>,
}

impl About {
    pub(super) fn of_row(row: &Row) -> Self {
        Self {
            name: row.text("name").to_owned(),
            description: Some(row.text("description").to_owned()),
            goal: Some(row.text("goal").to_owned()),
            file_path: row.text("file_path").to_owned(),
        }
    }

    /// The name of its file, whatever machine's path it is.
    fn file_name(&self) -> &str {
        self.file_path
            .rsplit(['/', '\\'])
            .next()
            .unwrap_or_default()
    }

    fn text(&self) -> String {
        let description = self.description.as_deref().unwrap_or_default().trim();
        let text = match self.goal.as_deref().unwrap_or_default().trim() {
            "" => description.to_owned(),
            goal => format!("{description}\nGoal: {goal}"),
        };
        clean(&credential::masked(&text), MAX_DESCRIPTION)
    }
}

/// The sources that there are, each with what is known of it; and what is known without a source.
#[derive(Debug, Default)]
pub(super) struct OldProbes {
    pub(super) sources: Vec<(PathBuf, About)>,
    pub(super) lost: Vec<(String, About)>,
}

/// Puts together what lists and rows say and the files, by the files' names.
pub(super) fn paired(files: &[PathBuf], known: Vec<(String, About)>) -> OldProbes {
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let names: BTreeSet<_> = files.iter().map(|path| name(path)).collect();
    let mut abouts = BTreeMap::new();
    let mut probes = OldProbes::default();
    for (source, about) in known {
        let file_name = about.file_name().to_owned();
        match names.contains(&file_name) {
            // What comes first is the database's, which was written to last.
            true => drop(abouts.entry(file_name).or_insert(about)),
            false => probes.lost.push((source, about)),
        }
    }
    let about = |path: &Path| abouts.get(&name(path)).cloned().unwrap_or_default();
    let sources = files.iter().map(|path| (path.clone(), about(path)));
    probes.sources = sources.collect();
    probes
}

/// What a `metadata.json` says.
pub(super) async fn of_list(path: &Path) -> Result<Vec<(String, About)>, Refusal> {
    let bytes = small_file(path, MAX_LIST_BYTES).await?;
    let list: List = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new("METADATA_MALFORMED", error.to_string()))?;
    let probes = list.probes.into_iter().map(|(name, mut about)| {
        if about.name.is_empty() {
            about.name.clone_from(&name);
        }
        (format!("{}: {name}", path.display()), about)
    });
    Ok(probes.collect())
}

/// One that nobody can take in.
pub(super) fn lost(source: String, about: &About) -> Done {
    let message = format!(
        "its file {:?} is not in a folder custom_probes here",
        about.file_name()
    );
    Done {
        kind: Kind::CustomProbe,
        source,
        outcome: Err(Refusal::new("SOURCE_MISSING", message).into()),
        left_out: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Takes one custom probe in.
pub(super) async fn import(client: &Client, dry_run: bool, path: &Path, about: &About) -> Done {
    let mut warnings = Vec::new();
    Done {
        kind: Kind::CustomProbe,
        source: path.display().to_string(),
        outcome: try_import(client, dry_run, path, about, &mut warnings).await,
        left_out: Vec::new(),
        warnings,
    }
}

async fn try_import(
    client: &Client,
    dry_run: bool,
    path: &Path,
    about: &About,
    warnings: &mut Vec<String>,
) -> Result<Outcome, Failure> {
    let bytes = small_file(path, MAX_SOURCE_BYTES).await?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let source = String::from_utf8(bytes)
        .map_err(|_| Refusal::new("SOURCE_MALFORMED", "is no UTF-8 text"))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = slug(&stem, '_', MAX_NAME);
    // For one whose own name is garak's, or no name of a module.
    let other = marked(&format!("own_{plain}"), '_', &stem, MAX_NAME);
    for name in [&plain, &other]
        .into_iter()
        .filter(|name| wrong_name(name).is_none())
    {
        match look(client, name, &sha256).await? {
            There::Same => return Ok(Outcome::Unchanged),
            // A name that was made for this one is this one's.
            There::Other if *name == stem || *name == other => return Err(taken(name).into()),
            There::Other => continue,
            There::Nothing => {}
        }
        let wanted = CreateCustomProbeRequest {
            name: name.clone(),
            description: about.text(),
            source: source.clone(),
        };
        match create(client, dry_run, &wanted, &sha256).await {
            Ok(()) => {}
            // garak has a module of this name.
            Err(error) if error.code() == Code::AlreadyExists && *name != other => continue,
            Err(error) => return Err(error.into()),
        }
        if *name != about.name {
            warnings.push(format!("its name here is {name}"));
        }
        return Ok(Outcome::Imported);
    }
    Err(taken(&plain).into())
}

fn taken(name: &str) -> Refusal {
    let message = format!("a custom probe {name} is there with another source; it stays as it is");
    Refusal::new("CUSTOM_PROBE_EXISTS", message)
}

enum There {
    Nothing,
    /// This source is there, perhaps as an earlier version.
    Same,
    Other,
}

async fn look(client: &Client, name: &str, sha256: &str) -> Result<There, Error> {
    let there = retry(RetryPolicy::default(), || async {
        let name = name.to_owned();
        let request = GetCustomProbeRequest { name, version: 0 };
        let answer = client.custom_probes().get_custom_probe(request).await?;
        Ok(answer.into_inner().custom_probe)
    });
    let there = match there.await {
        Err(error) if error.code() == Code::NotFound => return Ok(There::Nothing),
        there => there?.unwrap_or_default(),
    };
    let is_same = |one: &CustomProbe| one.sha256 == sha256;
    if is_same(&there) || versions(client, name).await?.iter().any(is_same) {
        return Ok(There::Same);
    }
    Ok(There::Other)
}

async fn versions(client: &Client, name: &str) -> Result<Vec<CustomProbe>, Error> {
    retry(RetryPolicy::default(), || async {
        let request = ListCustomProbeVersionsRequest {
            name: name.to_owned(),
            page_size: MAX_VERSIONS,
            page_token: String::new(),
        };
        let answer = client
            .custom_probes()
            .list_custom_probe_versions(request)
            .await?;
        Ok(answer.into_inner().custom_probes)
    })
    .await
}

async fn create(
    client: &Client,
    dry_run: bool,
    wanted: &CreateCustomProbeRequest,
    sha256: &str,
) -> Result<(), Error> {
    if dry_run {
        return Ok(());
    }
    retry(RetryPolicy::default(), || async {
        let wanted = wanted.clone();
        let name = wanted.name.clone();
        let made = client.custom_probes().create_custom_probe(wanted).await;
        made_or_there(made, async {
            Ok(matches!(look(client, &name, sha256).await?, There::Same))
        })
        .await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sources_and_what_is_known_of_them_meet_by_their_files_names() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("metadata.json");
        let text = r#"{"probes": {
            "MyProbe": {"name": "MyProbe", "file_path": "/old/custom_probes/my_probe.py",
                        "description": "what it does", "goal": "make it talk", "created_at": "x"},
            "Gone": {"file_path": "C:\\old\\gone.py", "description": null}}}"#;
        std::fs::write(&list, text).unwrap();
        let known = of_list(&list).await.unwrap();
        let files = ["/new/my_probe.py", "/new/unlisted.py"].map(PathBuf::from);
        let probes = paired(&files, known);
        assert_eq!(
            probes.sources[0].1.text(),
            "what it does\nGoal: make it talk"
        );
        assert_eq!(probes.sources[1].1.text(), "");
        let (source, about) = &probes.lost[0];
        assert!(source.ends_with("metadata.json: Gone"), "{source}");
        assert_eq!(
            (about.name.as_str(), about.file_name()),
            ("Gone", "gone.py")
        );
        std::fs::write(&list, "[]").unwrap();
        assert_eq!(
            of_list(&list).await.unwrap_err().reason,
            "METADATA_MALFORMED"
        );
    }
}
