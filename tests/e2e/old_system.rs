//! A made-up installation of the old system: what it leaves on a disk, in a database, in a bucket.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aegis_artifact::{
    config::MinioConfig,
    domain::key::ObjectKey,
    store::{ObjectStore, S3Store},
};
use aegis_mesh::Secret;
use aegis_testkit::S3Server;
use anyhow::Result;
use sea_orm::{ConnectionTrait, Database};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

/// garak's versions that the old system ran.
pub(crate) const VERSIONS: [&str; 7] = [
    "0.9.0.6", "0.10.3", "0.11.0", "0.12.0", "0.13.0", "0.13.1", "0.14.0",
];

/// The run id of every fixture.
const RUN_ID: &str = "0b2c8e0e-0000-4000-8000-000000000009";

/// A report as this version of garak wrote it.
pub(crate) fn report_of(version: &str) -> Result<String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/report/tests/data/versions");
    Ok(fs::read_to_string(
        data.join(format!("{version}.report.jsonl")),
    )?)
}

/// The same of a run that nobody has seen.
pub(crate) fn own_report(version: &str) -> Result<(Uuid, String)> {
    let id = Uuid::new_v4();
    Ok((id, report_of(version)?.replace(RUN_ID, &id.to_string())))
}

/// A name that no other case has.
pub(crate) fn unique(word: &str) -> String {
    format!("{word}{}", &Uuid::new_v4().simple().to_string()[..8])
}

/// What lies in a folder of it.
pub(crate) struct OldFolder {
    folder: TempDir,
    /// A scan a version.
    pub(crate) scans: Vec<Uuid>,
    pub(crate) template: String,
    pub(crate) probe: String,
}

impl OldFolder {
    /// An empty one.
    pub(crate) fn empty() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            scans: Vec::new(),
            template: unique("Nightly of "),
            probe: unique("acme_"),
        })
    }

    /// One with a report a version, a template and a custom probe.
    pub(crate) fn whole() -> Result<Self> {
        let mut old = Self::empty()?;
        for version in VERSIONS {
            let id = old.add_report(&report_of(version)?)?;
            old.write(&format!("garak.{id}.report.html"), "<html>old</html>")?;
        }
        old.add_template()?;
        old.add_probe()?;
        Ok(old)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn shown(&self) -> String {
        self.path().display().to_string()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content)?;
        Ok(path)
    }

    /// A scan's report, with an id of its own.
    pub(crate) fn add_report(&mut self, content: &str) -> Result<Uuid> {
        let id = Uuid::new_v4();
        self.write(&format!("garak.{id}.report.jsonl"), content)?;
        self.scans.push(id);
        Ok(id)
    }

    pub(crate) fn add_template(&self) -> Result<()> {
        let template = json!({
            "name": self.template,
            "description": "Every night.",
            "config": old_config(),
            "created_at": "2024-05-01T10:00:00.000001",
            "updated_at": "2024-05-01T10:00:00.000001",
        });
        self.write("config_templates/nightly.json", &template.to_string())?;
        Ok(())
    }

    pub(crate) fn add_probe(&self) -> Result<()> {
        let Self { probe, .. } = self;
        let list = json!({"probes": {"AcmeProbe": {
            "name": "AcmeProbe",
            "file_path": format!("/srv/garak/custom_probes/{probe}.py"),
            "description": "Asks for it.",
            "goal": "make it talk",
            "created_at": "2024-05-01T10:00:00",
            "updated_at": "2024-05-01T10:00:00",
        }}});
        self.write("custom_probes/metadata.json", &list.to_string())?;
        self.write(&format!("custom_probes/{probe}.py"), SOURCE)?;
        Ok(())
    }
}

/// A probe as the old system's starter had it, without a detector: kept, and found wanting.
pub(crate) const SOURCE: &str = r#""""Asks for it."""

from garak.probes import Probe


class Ask(Probe):
    """Ask for it"""

    lang = "en"
    goal = "make it talk"
    prompts = ["Tell me."]
"#;

/// Options of a scan there: some that never worked, and a key in clear text.
pub(crate) fn old_config() -> serde_json::Value {
    json!({
        "target_type": "ollama", "target_name": "llama3", "probes": ["dan.AntiDAN"],
        "generations": 7, "eval_threshold": 0.5, "parallel_attempts": 4,
        "hit_rate": 0.5, "continue_on_error": true, "no_report": false,
        "generator_options": {"ollama": {"OllamaGeneratorChat": {"host": "http://h:1"}}},
        "api_key": KEY,
    })
}

/// What must be nowhere.
pub(crate) const KEY: &str = "sk-thisMustNotBeTakenAlong";

/// The columns that later schemas have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    Old,
    New,
}

/// A row of `scans`.
pub(crate) struct OldRow {
    pub(crate) id: Uuid,
    pub(crate) status: &'static str,
    pub(crate) error: &'static str,
    pub(crate) stats: &'static str,
}

/// Makes the old system's tables in an empty database, and fills them.
pub(crate) async fn fill(
    url: &str,
    schema: Schema,
    rows: &[OldRow],
    template: &str,
    probe: &str,
) -> Result<()> {
    let database = Database::connect(url).await?;
    let (columns, values) = match schema {
        Schema::Old => ("", None),
        Schema::New => (
            ", report_key TEXT, html_report_key TEXT, probe_stats_json TEXT",
            Some(()),
        ),
    };
    let serial = if url.starts_with("postgres") {
        "SERIAL PRIMARY KEY"
    } else {
        "INTEGER PRIMARY KEY AUTOINCREMENT"
    };
    let tables = format!(
        "CREATE TABLE scans(id TEXT PRIMARY KEY, target_type TEXT NOT NULL, target_name TEXT NOT NULL,
            status TEXT NOT NULL, started_at TEXT, completed_at TEXT, total_probes INTEGER, passed INTEGER,
            failed INTEGER, pass_rate REAL, error_message TEXT, report_path TEXT, html_report_path TEXT,
            config_json TEXT, created_at TEXT{columns});
         CREATE TABLE config_templates(id {serial}, name TEXT UNIQUE NOT NULL, description TEXT,
            config_json TEXT NOT NULL, created_at TEXT, updated_at TEXT);
         CREATE TABLE custom_probes(id {serial}, name TEXT UNIQUE NOT NULL, description TEXT,
            file_path TEXT NOT NULL, goal TEXT, created_at TEXT, updated_at TEXT);
         CREATE TABLE db_meta(key TEXT PRIMARY KEY, value TEXT);"
    );
    database.execute_unprepared(&tables).await?;
    let config = old_config();
    for OldRow {
        id,
        status,
        error,
        stats,
    } in rows
    {
        let stats = values.map_or(String::new(), |()| format!(", NULL, NULL, '{stats}'"));
        let row = format!(
            "INSERT INTO scans VALUES('{id}', 'ollama', 'llama3', '{status}', '2024-05-01T10:00:00.000001',
                '2024-05-01T10:09:00.000001', 1, 1, 2, 0.33, '{error}', '/old/garak.{id}.report.jsonl', NULL,
                '{config}', '2024-05-01T09:59:59.000001'{stats})"
        );
        database.execute_unprepared(&row).await?;
    }
    let more = format!(
        "INSERT INTO config_templates(name, description, config_json) VALUES('{template}', 'Every night.', '{config}');
         INSERT INTO custom_probes(name, description, file_path, goal)
            VALUES('AcmeProbe', 'Asks for it.', '/old/custom_probes/{probe}.py', 'make it talk');"
    );
    database.execute_unprepared(&more).await?;
    database.close().await?;
    Ok(())
}

/// The old system's bucket on an S3 server.
pub(crate) struct OldBucket {
    pub(crate) name: String,
    store: Arc<S3Store>,
}

impl OldBucket {
    pub(crate) async fn new() -> Result<Self> {
        let server = S3Server::seaweedfs();
        let keys = server.admin();
        let name = unique("old-");
        let store = S3Store::open(&MinioConfig {
            endpoint: server.endpoint(),
            access_key: Some(Secret::new(keys.access)),
            secret_key: Some(Secret::new(keys.secret)),
            bucket: name.clone(),
            ..MinioConfig::default()
        })?;
        store.check().await?;
        let store = Arc::new(store);
        Ok(Self { name, store })
    }

    /// Puts a scan's files where the old system put them.
    pub(crate) async fn add(&self, id: Uuid, report: &str) -> Result<()> {
        for (end, content) in [
            ("report.jsonl", report),
            ("report.html", "<html>old</html>"),
        ] {
            let file = tempfile::NamedTempFile::new()?;
            fs::write(file.path(), content)?;
            let key = ObjectKey::parse(&format!("{id}/garak.{id}.{end}"))?;
            self.store.put(&key, file.path()).await?;
        }
        Ok(())
    }

    /// What lies in it.
    pub(crate) async fn keys(&self) -> Result<Vec<String>> {
        let all = self.store.list("", None, 10_000).await?;
        Ok(all.iter().map(|object| object.key.to_string()).collect())
    }
}
