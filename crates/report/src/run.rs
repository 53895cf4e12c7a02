//! What a report says about the run that wrote it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::attempt::List;
use crate::error::LineError;
use crate::line::Str;

/// Longest string that is kept of a run.
const MAX_KEPT_BYTES: usize = 256;

/// Most words of a probe specification that are kept.
const MAX_SPEC_WORDS: usize = 256;

/// What a report says about its run. Strings are empty when it does not say, and at most 256 bytes
/// long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunInfo {
    /// garak's run id, a UUID.
    pub run_id: String,
    /// Version of the garak that ran.
    pub garak_version: String,
    /// Local time without a zone, ISO 8601.
    pub start_time: String,
    /// Local time without a zone, ISO 8601.
    pub end_time: String,
    /// What was asked: a generator's `module` or `module.Class`. Called `model_type` up to 0.13.0.
    pub target_type: String,
    /// The generator's model; many have none. Called `model_name` up to 0.13.0.
    pub target_name: String,
    /// Which probes were asked for, as the run named them ("all", "dan", "probes.dan.AntiDAN"); at
    /// most 256 of them.
    pub probe_spec: Vec<String>,
    /// Outputs for each prompt.
    pub generations: Option<u64>,
    /// The seed, if there was one.
    pub seed: Option<i64>,
    /// The threshold, in the few reports that name it: garak before 0.9.0.11 and programs that
    /// write garak's format. garak itself drops floats from its setup line since.
    pub eval_threshold: Option<f64>,
    /// Whether there is a `completion` line: the run came to its end.
    pub is_completed: bool,
    /// Whether there is a `digest` line.
    pub has_digest: bool,
}

/// The first line: `start_run setup`, or `start_run args config` before 0.9.0.11, which has the
/// command line's arguments without any prefix.
#[derive(Debug, Default, Deserialize)]
pub struct Setup<'a> {
    #[serde(borrow, rename = "_config.version")]
    version: Option<&'a RawValue>,
    #[serde(borrow, rename = "transient.run_id")]
    run_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "transient.starttime_iso")]
    start_time: Option<&'a RawValue>,
    #[serde(borrow, rename = "plugins.target_type")]
    target_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "plugins.target_name")]
    target_name: Option<&'a RawValue>,
    #[serde(borrow, rename = "plugins.model_type")]
    model_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "plugins.model_name")]
    model_name: Option<&'a RawValue>,
    #[serde(borrow, rename = "model_type")]
    args_model_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "model_name")]
    args_model_name: Option<&'a RawValue>,
    #[serde(borrow, rename = "run.spec")]
    spec: Option<&'a RawValue>,
    #[serde(borrow, rename = "plugins.probe_spec")]
    probe_spec: Option<&'a RawValue>,
    #[serde(borrow, rename = "probe_spec")]
    args_probe_spec: Option<&'a RawValue>,
    #[serde(borrow, rename = "probes")]
    args_probes: Option<&'a RawValue>,
    #[serde(borrow, rename = "run.generations")]
    generations: Option<&'a RawValue>,
    #[serde(borrow, rename = "generations")]
    args_generations: Option<&'a RawValue>,
    #[serde(borrow, rename = "run.seed")]
    seed: Option<&'a RawValue>,
    #[serde(borrow, rename = "seed")]
    args_seed: Option<&'a RawValue>,
    #[serde(borrow, rename = "run.eval_threshold")]
    eval_threshold: Option<&'a RawValue>,
    #[serde(borrow, rename = "eval_threshold")]
    args_eval_threshold: Option<&'a RawValue>,
}

impl<'a> Setup<'a> {
    /// Reads the line. Fields of an odd type count as missing.
    pub(crate) fn parse(line: &'a str) -> Result<Self, LineError> {
        Ok(serde_json::from_str(line)?)
    }
}

impl RunInfo {
    /// Takes in the first line. What `init` says goes before it.
    pub(crate) fn set_up(&mut self, setup: &Setup<'_>) {
        let word = |values: &[Option<&RawValue>]| {
            let mut words = values.iter().flatten().filter_map(|value| text(value));
            words.find(|word| !word.is_empty()).unwrap_or_default()
        };
        let or = |kept: &mut String, values: &[Option<&RawValue>]| {
            if kept.is_empty() {
                *kept = word(values);
            }
        };
        or(&mut self.run_id, &[setup.run_id]);
        or(&mut self.garak_version, &[setup.version]);
        or(&mut self.start_time, &[setup.start_time]);
        self.target_type = word(&[setup.target_type, setup.model_type, setup.args_model_type]);
        self.target_name = word(&[setup.target_name, setup.model_name, setup.args_model_name]);
        let specs = [
            setup.spec,
            setup.probe_spec,
            setup.args_probe_spec,
            setup.args_probes,
        ];
        let mut specs = specs.iter().flatten().map(|value| spec_words(value));
        self.probe_spec = specs.find(|words| !words.is_empty()).unwrap_or_default();
        self.generations = first(&[setup.generations, setup.args_generations]);
        self.seed = first(&[setup.seed, setup.args_seed]);
        let threshold = first(&[setup.eval_threshold, setup.args_eval_threshold]);
        self.eval_threshold = threshold.filter(|threshold: &f64| (0.0..=1.0).contains(threshold));
    }
}

/// A string that is kept, cut between characters.
pub(crate) fn kept(text: &Str<'_>) -> String {
    let text = &*text.0;
    text[..text.floor_char_boundary(MAX_KEPT_BYTES)].to_owned()
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str::<Str<'_>>(value.get())
        .ok()
        .map(|text| kept(&text))
}

fn first<'a, T: Deserialize<'a>>(values: &[Option<&'a RawValue>]) -> Option<T> {
    values
        .iter()
        .flatten()
        .find_map(|value| serde_json::from_str(value.get()).ok())
}

/// A specification is a text with commas, a list, or an object (since 0.16) of which `include` is
/// what was asked for.
fn spec_words(value: &RawValue) -> Vec<String> {
    #[derive(Deserialize)]
    struct Spec<'a> {
        #[serde(borrow)]
        include: Option<&'a RawValue>,
    }
    if value.get().starts_with('{') {
        let spec = serde_json::from_str::<Spec<'_>>(value.get());
        let include = spec.ok().and_then(|spec| spec.include);
        return include.map(list_words).unwrap_or_default();
    }
    list_words(value)
}

fn list_words(value: &RawValue) -> Vec<String> {
    if value.get().starts_with('[') {
        let list = serde_json::from_str::<List<'_, &RawValue>>(value.get());
        let words = list.unwrap_or_default().items;
        let words = words.into_iter().filter_map(text);
        return words.take(MAX_SPEC_WORDS).collect();
    }
    let Ok(Str(text)) = serde_json::from_str::<Str<'_>>(value.get()) else {
        return Vec::new();
    };
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let words = words.map(|word| kept(&Str(word.into())));
    words.take(MAX_SPEC_WORDS).collect()
}
