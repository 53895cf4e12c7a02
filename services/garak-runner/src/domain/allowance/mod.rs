//! What a scan may ask of this runner. A scan's specification is code unless it is looked at: a
//! generator may run a shell command, an option may name a file or another generator, a key may
//! be sent to a stranger. So everything is refused that is not listed.

mod defaults;
mod headers;
mod plugin_options;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    catalogue::Catalogue,
    plugin_name::PluginName,
    probe_work::{ProbeWork, Refusal, Target},
};

pub use defaults::{default_generators, default_secrets};

/// A generator that scans may use, and the options that they may set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedGenerator {
    /// garak's name of it: "openai.OpenAICompatible".
    pub name: String,
    /// Options that a scan may set; all others are refused.
    #[serde(default)]
    pub options: BTreeSet<String>,
}

/// A runner's allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// The generators.
    pub generators: Vec<AllowedGenerator>,
    /// Environment variables of the runner that a scan may name as its target's secret.
    pub secrets: BTreeSet<String>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            generators: default_generators(),
            secrets: default_secrets(),
        }
    }
}

impl Allowance {
    /// Looks at everything in the work that could do more than probe a target.
    ///
    /// # Errors
    /// GENERATOR_NOT_ALLOWED, OPTION_NOT_ALLOWED, SECRET_NOT_ALLOWED or INVALID_SPEC, naming what.
    pub fn check(&self, work: &ProbeWork, catalogue: &Catalogue) -> Result<(), Refusal> {
        self.check_generator(&work.target)?;
        if let Some(secret) = &work.target.secret {
            self.check_secret(secret, &work.target.generator, catalogue)?;
        }
        plugin_options::check(&work.options.plugin_options, catalogue)?;
        work.options.buffs.iter().try_for_each(|b| check_buff(b))
    }

    fn check_generator(&self, target: &Target) -> Result<(), Refusal> {
        let name = target.generator.to_string();
        let Some(allowed) = self.generators.iter().find(|g| g.name == name) else {
            return Err(Refusal::new(
                "GENERATOR_NOT_ALLOWED",
                format!("this runner does not allow the generator {name}"),
            ));
        };
        for (option, value) in &target.options {
            if !allowed.options.contains(option) {
                return Err(Refusal::new(
                    "OPTION_NOT_ALLOWED",
                    format!(
                        "this runner does not allow the option {} of {name}",
                        short(option)
                    ),
                ));
            }
            if option == "headers" {
                headers::check(value)?;
            }
        }
        Ok(())
    }

    /// A variable that some generator declares as its own goes to that generator only: else a
    /// scan could have the key of one service sent to the address of another.
    fn check_secret(
        &self,
        secret: &str,
        generator: &PluginName,
        catalogue: &Catalogue,
    ) -> Result<(), Refusal> {
        let refused = |message| Err(Refusal::new("SECRET_NOT_ALLOWED", message));
        if !self.secrets.contains(secret) {
            return refused(format!(
                "this runner does not allow the secret {}",
                short(secret)
            ));
        }
        match catalogue.key_variable(generator) {
            None => refused(format!("{generator} reads no key")),
            Some(own) if own != secret && catalogue.is_key_variable(secret) => refused(format!(
                "{secret} is the key of another generator than {generator}, which reads {own}"
            )),
            Some(_) => Ok(()),
        }
    }
}

fn check_buff(buff: &str) -> Result<(), Refusal> {
    let parts: Vec<&str> = buff.split('.').collect();
    let names = match parts.as_slice() {
        ["buffs", names @ ..] if matches!(names.len(), 1 | 2) => names,
        _ => &[""],
    };
    if names.iter().all(|n| super::plugin_name::is_identifier(n)) {
        return Ok(());
    }
    Err(Refusal::new(
        "INVALID_SPEC",
        format!("{:?} names no buff", short(buff)),
    ))
}

/// Text of a spec, cut for a message.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests;
