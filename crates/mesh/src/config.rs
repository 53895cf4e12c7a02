//! Configuration: defaults, then a TOML file, then the environment; each overrides the one
//! before it, key by key. A key that nobody knows is refused, with where it came from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ::config::{Config, File, FileFormat, Map, Source, Value};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, secret::MASK};

/// Why a configuration is no good. Its text never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file or a value is not TOML.
    #[error("{origin} is not TOML: {message}")]
    Syntax {
        /// The file or the variable.
        origin: String,
        /// Where and why.
        message: String,
    },
    /// Nobody knows this key.
    #[error("unknown key `{key}` in {origin}")]
    UnknownKey {
        /// The key, dotted.
        key: String,
        /// The file or the variable.
        origin: String,
    },
    /// The value does not fit its key.
    #[error("invalid value for `{key}` in {origin}: {message}")]
    InvalidValue {
        /// The key, dotted.
        key: String,
        /// The file or the variable.
        origin: String,
        /// What was expected.
        message: String,
    },
    /// Each value is fine, together they are not.
    #[error("{0}")]
    Invalid(String),
}

impl From<ConfigError> for Error {
    /// INVALID_ARGUMENT / INVALID_CONFIG.
    fn from(error: ConfigError) -> Self {
        Self::invalid_argument("INVALID_CONFIG", error.to_string())
    }
}

impl ConfigError {
    /// Values that do not go together; say which keys and what to do.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// Loads the configuration of `service`. A variable is `AEGIS_<SERVICE>__` and the key, its parts
/// joined by `__`: `AEGIS_CATALOG__SERVER__LISTEN` is `server.listen`. A variable's value is text,
/// or an inline TOML array or table if it begins with `[` or `{`.
///
/// `T` needs `#[serde(default)]`. Unknown keys are refused with or without `deny_unknown_fields`.
/// Reads nothing but `file` and `env`.
pub fn load<T>(
    service: &str,
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let mut layers = Config::builder().add_source(defaults::<T>()?);
    let mut origins = Origins::default();
    if let Some(path) = file {
        let text = read(path)?;
        origins.add_file(path, &text)?;
        layers = layers.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let variables = Variables::read(service, env)?;
    origins.add_variables(&variables);
    let merged = layers.add_source(variables).build();
    let merged = merged.map_err(|e| ConfigError::invalid(e.to_string()))?;
    deserialize(merged, &origins)
}

/// The configuration as TOML, with secrets masked.
pub fn dump<T: Serialize>(config: &T) -> Result<String, ConfigError> {
    toml::to_string_pretty(config).map_err(|e| ConfigError::invalid(e.to_string()))
}

/// The prefix of a service's variables: `AEGIS_GARAK_RUNNER__` for `garak-runner`.
pub fn prefix(service: &str) -> String {
    format!("AEGIS_{}__", service.to_uppercase().replace('-', "_"))
}

/// The environment, with what other programs' variables say under the names of ours: `DATABASE_URL`
/// as `AEGIS_CATALOG__DATABASE_URL`, unless that is set itself. An empty one says nothing.
pub fn with_aliases(
    prefix: &str,
    aliases: &[(&str, &str)],
    env: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = env.into_iter().collect();
    for (alias, key) in aliases {
        let name = format!("{prefix}{}", key.to_uppercase().replace('.', "__"));
        if let Some(value) = env.get(*alias).filter(|value| !value.is_empty()).cloned() {
            env.entry(name).or_insert(value);
        }
    }
    env
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The defaults as the lowest layer, so that a file which sets one key of a table leaves the
/// others as `T` (and not as the table's own type) has them.
fn defaults<T: Serialize + Default>() -> Result<impl Source + Send + Sync + 'static, ConfigError> {
    let mut table = toml::Table::try_from(T::default())
        .map_err(|e| ConfigError::invalid(format!("the defaults are not TOML: {e}")))?;
    drop_masks(&mut table);
    Ok(File::from_str(&table.to_string(), FileFormat::Toml))
}

fn drop_masks(table: &mut toml::Table) {
    table.retain(|_, value| value.as_str() != Some(MASK));
    for value in table.iter_mut().filter_map(|(_, v)| v.as_table_mut()) {
        drop_masks(value);
    }
}

fn deserialize<T: DeserializeOwned>(merged: Config, origins: &Origins) -> Result<T, ConfigError> {
    let mut unknown = None;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(merged, &mut track);
    let loaded = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    if let Some(key) = unknown {
        let origin = origins.of(&key);
        return Err(ConfigError::UnknownKey { key, origin });
    }
    loaded.map_err(|e: ::config::ConfigError| {
        let key = track.path().to_string();
        let origin = origins.of(&key);
        match cause(e) {
            cause if cause.starts_with("unknown field") => ConfigError::UnknownKey { key, origin },
            message => ConfigError::InvalidValue {
                key,
                origin,
                message,
            },
        }
    })
}

/// The words of the innermost error, without the value, which may be a secret.
fn cause(error: ::config::ConfigError) -> String {
    use ::config::ConfigError::{At, Type};
    match error {
        At { error, .. } => cause(*error),
        Type { expected, .. } => format!("expected {expected}"),
        other => other.to_string(),
    }
}

/// Where each key was set, for messages only.
#[derive(Default)]
struct Origins {
    file: Option<(String, toml::Table)>,
    variables: BTreeMap<String, String>,
}

impl Origins {
    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let origin = format!("the file {}", path.display());
        let table = text.parse().map_err(|e: toml::de::Error| {
            let line = e
                .span()
                .map_or(1, |span| text[..span.start].lines().count().max(1));
            ConfigError::Syntax {
                origin: origin.clone(),
                message: format!("line {line}: {}", e.message()),
            }
        })?;
        self.file = Some((origin, table));
        Ok(())
    }

    fn add_variables(&mut self, variables: &Variables) {
        for variable in &variables.0 {
            let origin = format!("the environment variable {}", variable.name);
            self.variables.insert(variable.key.clone(), origin);
        }
    }

    fn of(&self, key: &str) -> String {
        let covers = |set: &str| {
            let rest = key.strip_prefix(set);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if let Some((_, origin)) = self.variables.iter().find(|(set, _)| covers(set)) {
            return origin.clone();
        }
        match &self.file {
            Some((origin, table)) if has(table, key) => origin.clone(),
            _ => "the defaults".to_owned(),
        }
    }
}

fn has(table: &toml::Table, key: &str) -> bool {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let name = first.split('[').next().unwrap_or(first);
    match table.get(name) {
        None => false,
        Some(toml::Value::Table(inner)) if !rest.is_empty() => has(inner, rest),
        Some(_) => true,
    }
}

/// The variables of one service.
#[derive(Debug, Clone)]
struct Variables(Vec<Variable>);

#[derive(Debug, Clone)]
struct Variable {
    name: String,
    key: String,
    value: Value,
}

impl Variables {
    fn read(
        service: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let prefix = prefix(service);
        let mut variables = Vec::new();
        for (name, text) in env {
            let Some(rest) = name.strip_prefix(&prefix) else {
                continue;
            };
            let key = rest.to_lowercase().replace("__", ".");
            let value = value(&name, &text)?;
            variables.push(Variable { name, key, value });
        }
        variables.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self(variables))
    }
}

fn value(name: &str, text: &str) -> Result<Value, ConfigError> {
    if !text.starts_with(['[', '{']) {
        return Ok(Value::new(None, text));
    }
    let inline = File::from_str(&format!("value = {text}"), FileFormat::Toml);
    let parsed = Config::builder().add_source(inline).build();
    parsed
        .and_then(|c| c.get("value"))
        .map_err(|_| ConfigError::Syntax {
            origin: format!("the environment variable {name}"),
            message: "a value that begins with [ or { is an inline TOML array or table".to_owned(),
        })
}

impl Source for Variables {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        let entry = |v: &Variable| (v.key.clone(), v.value.clone());
        Ok(self.0.iter().map(entry).collect())
    }
}
