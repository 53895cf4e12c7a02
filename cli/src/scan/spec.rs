//! A scan's specification from the command line.

use std::path::PathBuf;

use aegis_proto::{
    json,
    scan::v1::{ScanSpec, Target},
};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use crate::args::key_value;

/// What to scan, and with what.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpecArgs {
    /// JSON file with a whole specification, as POST /v1/scans takes it; other options win over it
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// garak generator, such as openai.OpenAICompatible
    #[arg(long)]
    target_type: Option<String>,
    /// Model or endpoint name
    #[arg(long)]
    target_name: Option<String>,
    /// Option of the generator, VALUE as JSON or plain text, repeatable
    #[arg(long = "target-option", value_name = "KEY=VALUE", value_parser = key_value)]
    target_options: Vec<(String, String)>,
    /// The target's key: env:NAME of the runner's environment
    #[arg(long, value_name = "env:NAME")]
    secret: Option<String>,
    /// probes.dan, probes.dan.AntiDAN or all; repeatable, or separated by commas
    #[arg(long, value_delimiter = ',')]
    include: Vec<String>,
    /// Taken away from --include
    #[arg(long, value_delimiter = ',')]
    exclude: Vec<String>,
    /// Keep probes with a tag of this prefix, such as owasp:llm01
    #[arg(long = "tag", value_delimiter = ',')]
    tags: Vec<String>,
    /// Keep probes of this tier
    #[arg(long = "tier", value_delimiter = ',')]
    tiers: Vec<i32>,
    /// Outputs per prompt, 1 to 500 [default: garak's, 5]
    #[arg(long, short)]
    generations: Option<i32>,
    /// Score from which an output is a hit, 0 to 1 [default: garak's, 0.5]
    #[arg(long)]
    eval_threshold: Option<f64>,
    /// Makes a scan repeatable [default: chosen and stored]
    #[arg(long)]
    seed: Option<i64>,
    /// Calls to the target in flight at once [default: 16]
    #[arg(long)]
    max_in_flight: Option<i32>,
    /// Change prompts, such as buffs.lowercase
    #[arg(long = "buff", value_delimiter = ',')]
    buffs: Vec<String>,
    /// Send the unchanged prompt too
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    buffs_include_original_prompt: Option<bool>,
    /// Judge with these instead of each probe's own
    #[arg(long = "detector", value_delimiter = ',')]
    detectors: Vec<String>,
    /// Do not judge with these
    #[arg(long = "exclude-detector", value_delimiter = ',')]
    exclude_detectors: Vec<String>,
    /// Judge with each probe's extended detectors too [default: garak's, true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    extended_detectors: Option<bool>,
    /// Remove the prompt from the start of an output [default: garak's, true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    deprefix: Option<bool>,
    /// Sent with every prompt
    #[arg(long)]
    system_prompt: Option<String>,
    /// Longest run time of one probe, in seconds
    #[arg(long, value_name = "SECONDS")]
    probe_timeout: Option<i64>,
    /// JSON of probe, detector and buff options, nested as garak takes them
    #[arg(long, value_name = "JSON")]
    plugin_options: Option<String>,
    /// A probe of your own to make available, such as acme_leak or acme_leak@2
    #[arg(long = "custom-probe", value_delimiter = ',')]
    custom_probes: Vec<String>,
    /// 0 to 100; higher runs first [default: 50]
    #[arg(long)]
    priority: Option<i32>,
    /// What the runners must have: torch, gpu, garak==VERSION
    #[arg(long, value_delimiter = ',')]
    requires: Vec<String>,
}

impl SpecArgs {
    /// The specification. What it means is for the server to judge.
    pub(crate) fn into_spec(self) -> anyhow::Result<ScanSpec> {
        let mut spec = match &self.spec {
            Some(file) => read_spec(file)?,
            None => ScanSpec::default(),
        };
        let target = spec.target.get_or_insert_default();
        set(&mut target.r#type, self.target_type);
        set(&mut target.name, self.target_name);
        set(&mut target.secret, self.secret);
        add_options(target, self.target_options)?;
        replace(&mut spec.include, self.include);
        replace(&mut spec.exclude, self.exclude);
        replace(&mut spec.tags, self.tags);
        replace(&mut spec.tiers, self.tiers);
        replace(&mut spec.buffs, self.buffs);
        replace(&mut spec.detectors, self.detectors);
        replace(&mut spec.exclude_detectors, self.exclude_detectors);
        replace(&mut spec.custom_probes, self.custom_probes);
        replace(&mut spec.requires, self.requires);
        spec.generations = self.generations.or(spec.generations);
        spec.eval_threshold = self.eval_threshold.or(spec.eval_threshold);
        spec.seed = self.seed.or(spec.seed);
        spec.max_in_flight = self.max_in_flight.or(spec.max_in_flight);
        spec.buffs_include_original_prompt = self
            .buffs_include_original_prompt
            .or(spec.buffs_include_original_prompt);
        spec.extended_detectors = self.extended_detectors.or(spec.extended_detectors);
        spec.deprefix = self.deprefix.or(spec.deprefix);
        spec.system_prompt = self.system_prompt.or(spec.system_prompt);
        spec.priority = self.priority.or(spec.priority);
        if let Some(seconds) = self.probe_timeout {
            spec.probe_timeout = Some(prost_types::Duration { seconds, nanos: 0 });
        }
        if let Some(options) = self.plugin_options {
            let options: Value =
                serde_json::from_str(&options).context("--plugin-options is not JSON")?;
            let read: ScanSpec = json::from_json(serde_json::json!({"pluginOptions": options}))
                .context("--plugin-options")?;
            spec.plugin_options = read.plugin_options;
        }
        Ok(spec)
    }
}

fn read_spec(file: &PathBuf) -> anyhow::Result<ScanSpec> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let value = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    json::from_json(value).with_context(|| format!("{}", file.display()))
}

fn set(field: &mut String, value: Option<String>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn replace<T>(field: &mut Vec<T>, values: Vec<T>) {
    if !values.is_empty() {
        *field = values;
    }
}

fn add_options(target: &mut Target, options: Vec<(String, String)>) -> anyhow::Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    let mut object = serde_json::Map::new();
    for (key, text) in options {
        // Plain text need not be quoted; whatever reads as JSON is taken as JSON.
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if object.insert(key.clone(), value).is_some() {
            bail!("--target-option {key} is given twice");
        }
    }
    let added: Target =
        json::from_json(serde_json::json!({"options": object})).context("--target-option")?;
    let fields = added.options.unwrap_or_default().fields;
    target.options.get_or_insert_default().fields.extend(fields);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        spec: SpecArgs,
    }

    fn spec(args: &[&str]) -> anyhow::Result<ScanSpec> {
        let args = std::iter::once(&"x").chain(args);
        Only::try_parse_from(args)?.spec.into_spec()
    }

    #[test]
    fn options_become_the_specification() -> anyhow::Result<()> {
        let spec = spec(&[
            "--target-type=openai.OpenAICompatible",
            "--target-name=m",
            "--target-option=uri=http://127.0.0.1:1/v1/",
            "--target-option=max_tokens=7",
            "--include=probes.dan,probes.goodside",
            "--deprefix=false",
            "-g2",
        ])?;
        let json = json::to_json(&spec)?;
        assert_eq!(json["target"]["options"]["uri"], "http://127.0.0.1:1/v1/");
        assert_eq!(json["target"]["options"]["max_tokens"], 7.0);
        assert_eq!(spec.include, ["probes.dan", "probes.goodside"]);
        assert_eq!((spec.generations, spec.deprefix), (Some(2), Some(false)));
        Ok(())
    }

    #[test]
    fn an_option_given_twice_is_refused() {
        let error = spec(&["--target-option=a=1", "--target-option=a=2"]).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}
