//! Defaults, file, environment; what is unknown is refused; secrets are masked.

use std::{collections::BTreeMap, path::PathBuf};

use aegis_mesh::{ClientConfig, ConfigError, Secret, ServerConfig, TelemetryConfig, config};
use serde::{Deserialize, Serialize};

/// A service's configuration without `deny_unknown_fields` of its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Sample {
    server: ServerConfig,
    catalog: ClientConfig,
    telemetry: TelemetryConfig,
    store: Store,
    names: Vec<String>,
    limits: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Store {
    url: Option<Secret>,
    folder: Option<PathBuf>,
    label: String,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(7102),
            catalog: ClientConfig::at("http://127.0.0.1:7103"),
            telemetry: TelemetryConfig::default(),
            store: Store::default(),
            names: vec!["a".to_owned()],
            limits: BTreeMap::new(),
        }
    }
}

fn load(file: Option<&str>, env: &[(&str, &str)]) -> Result<Sample, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sample.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).expect("written");
    }
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    config::load("sample-service", file.map(|_| path.as_path()), env)
}

#[test]
fn the_environment_beats_the_file_beats_the_defaults() {
    let file = "[server]\nmax_message_bytes = 7\nmax_calls = 3\n[store]\nlabel = 'file'\n";
    let env = [
        ("AEGIS_SAMPLE_SERVICE__SERVER__MAX_CALLS", "9"),
        ("AEGIS_SAMPLE_SERVICE__STORE__FOLDER", "/data"),
        ("AEGIS_SAMPLE_SERVICE__SERVER__REFLECTION", "false"),
        ("AEGIS_OTHER__SERVER__MAX_CALLS", "1"),
        ("PATH", "/bin"),
    ];
    let sample = load(Some(file), &env).expect("loads");
    assert_eq!(sample.server.max_message_bytes, 7);
    assert_eq!(sample.server.max_calls, 9);
    assert!(!sample.server.reflection);
    assert_eq!(sample.store.label, "file");
    assert_eq!(sample.store.folder, Some(PathBuf::from("/data")));
    // The service's default for a table stays when the file sets another key of it.
    assert_eq!(sample.server.listen.port(), 7102);
    assert_eq!(sample.catalog.address, "http://127.0.0.1:7103");
}

#[test]
fn a_variable_may_look_like_a_number_and_lists_and_tables_are_toml() {
    let env = [
        ("AEGIS_SAMPLE_SERVICE__STORE__LABEL", "12345"),
        ("AEGIS_SAMPLE_SERVICE__STORE__URL", "000"),
        ("AEGIS_SAMPLE_SERVICE__NAMES", "['x', 'y']"),
        ("AEGIS_SAMPLE_SERVICE__LIMITS", "{ b = 2 }"),
    ];
    let sample = load(None, &env).expect("loads");
    assert_eq!(sample.store.label, "12345");
    assert_eq!(sample.store.url.expect("set").expose(), "000");
    assert_eq!(sample.names, ["x", "y"]);
    assert_eq!(sample.limits["b"], 2);
}

#[test]
fn an_unknown_key_is_refused_with_where_it_came_from() {
    for (file, env, key, origin) in [
        (Some("colour = 1"), None, "`colour`", "sample.toml"),
        (
            Some("[store]\nlable = 'x'"),
            None,
            "`store.lable`",
            "sample.toml",
        ),
        (
            Some("[server]\nport = 1"),
            None,
            "`server.port`",
            "sample.toml",
        ),
        (
            None,
            Some("COLOUR"),
            "`colour`",
            "AEGIS_SAMPLE_SERVICE__COLOUR",
        ),
        (
            None,
            Some("SERVER__PORT"),
            "`server.port`",
            "AEGIS_SAMPLE_SERVICE__SERVER__PORT",
        ),
    ] {
        let name = env.map(|rest| format!("AEGIS_SAMPLE_SERVICE__{rest}"));
        let env: Vec<_> = name.iter().map(|name| (name.as_str(), "1")).collect();
        let error = load(file, &env).expect_err(key);
        assert!(matches!(error, ConfigError::UnknownKey { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(key) && text.contains(origin), "{text}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_key_and_never_shown() {
    for (file, key) in [
        ("[server]\nmax_calls = 'hunter2'", "`server.max_calls`"),
        ("[server]\nlisten = 'hunter2'", "`server.listen`"),
        ("[store]\nurl = ['hunter2']", "`store.url`"),
        ("[store]\nurl = ''", "`store.url`"),
        (
            "[telemetry]\nlog_format = 'hunter2'",
            "`telemetry.log_format`",
        ),
    ] {
        let error = load(Some(file), &[]).expect_err(file).to_string();
        assert!(
            error.contains(key) && error.contains("sample.toml"),
            "{error}"
        );
        assert!(!error.contains("url = "), "{error}");
    }
    let secret = load(Some("[store]\nurl = ['hunter2']"), &[]).expect_err("no string");
    let shown = format!("{secret} {secret:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_named() {
    let error = load(Some("a = 1\nb = = 2\n"), &[])
        .expect_err("no TOML")
        .to_string();
    assert!(
        error.contains("sample.toml") && error.contains("line 2"),
        "{error}"
    );
    let missing = PathBuf::from("/nowhere/sample.toml");
    let error = config::load::<Sample>("x", Some(&missing), []).expect_err("not there");
    assert!(error.to_string().contains("/nowhere/sample.toml"));
    let error = load(None, &[("AEGIS_SAMPLE_SERVICE__NAMES", "[hunter2")]).expect_err("no TOML");
    let text = error.to_string();
    assert!(
        text.contains("AEGIS_SAMPLE_SERVICE__NAMES") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_dump_masks_secrets_and_loads_again() {
    let file = "[server]\ntoken = 'hunter2'\n[store]\nurl = 'postgres://u:hunter3@db/x'\n";
    let sample = load(Some(file), &[]).expect("loads");
    let dump = config::dump(&sample).expect("dumps");
    let shown = format!("{dump}{sample:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(dump.contains("token = \"***\""), "{dump}");
    assert!(load(Some(&dump), &[]).is_err(), "a mask is no secret");
    let bare = config::dump(&load(None, &[]).expect("loads")).expect("dumps");
    assert_eq!(
        config::dump(&load(Some(&bare), &[]).expect("loads again")).expect("dumps"),
        bare
    );
}
