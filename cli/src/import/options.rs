//! What the old system's scan options are here (docs/scan-options.md has the table).

use aegis_proto::{json::from_json, scan::v1::ScanSpec};
use serde_json::{Map, Number, Value, json};

use super::credential;

/// An option that is not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) option: String,
    pub(super) why: String,
}

/// Generators that the old system named by their module: garak's default class of each.
const DEFAULT_CLASSES: [(&str, &str); 9] = [
    ("anthropic", "anthropic.AnthropicGenerator"),
    ("cohere", "cohere.CohereGenerator"),
    ("groq", "groq.GroqChat"),
    ("mistral", "mistral.MistralGenerator"),
    ("nim", "nim.NVOpenAIChat"),
    ("ollama", "ollama.OllamaGeneratorChat"),
    ("openai", "openai.OpenAIGenerator"),
    ("rest", "rest.RestGenerator"),
    ("test", "test.Blank"),
];

/// Options that Aegis has not, each with the reason.
const NOT_HERE: [(&str, &str); 9] = [
    (
        "continue_on_error",
        "always so: a probe that fails costs that probe",
    ),
    (
        "skip_unknown",
        "an unknown name is an error that says what is near",
    ),
    (
        "verbosity",
        "progress is structured; nothing reads garak's output",
    ),
    (
        "verbose",
        "progress is structured; nothing reads garak's output",
    ),
    ("hit_rate", "never worked: garak has no such option"),
    ("report_threshold", "never worked: garak has no such option"),
    ("collect_timing", "always so: events bear times"),
    ("output_dir", "never worked: reports are stored by Aegis"),
    ("no_report", "never worked: a scan always has its report"),
];

/// A specification made of old options: what it is, and what of them it has not.
pub(super) fn spec(mut config: Map<String, Value>) -> (ScanSpec, Vec<LeftOut>) {
    let dropped = credential::strip(&mut config);
    let mut made = Made::default();
    for path in dropped {
        made.leave(
            &path,
            "a credential in clear text; name a variable with --secret env:NAME",
        );
    }
    let class = target_class(&config);
    for (option, value) in &config {
        if !is_empty(value) {
            made.option(option, value, class.as_deref());
        }
    }
    (made.spec, made.left_out)
}

fn target_class(config: &Map<String, Value>) -> Option<String> {
    let name = config
        .get("target_type")
        .or_else(|| config.get("model_type"))?
        .as_str()?;
    let default = DEFAULT_CLASSES.iter().find(|(module, _)| *module == name);
    Some(default.map_or(name, |(_, class)| class).to_owned())
}

/// Says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[derive(Default)]
struct Made {
    spec: ScanSpec,
    left_out: Vec<LeftOut>,
}

impl Made {
    fn leave(&mut self, option: &str, why: impl Into<String>) {
        self.left_out.push(LeftOut {
            option: option.to_owned(),
            why: why.into(),
        });
    }

    fn option(&mut self, option: &str, value: &Value, class: Option<&str>) {
        match option {
            "target_type" | "model_type" => {
                self.set(
                    option,
                    json!({"target": {"type": class.unwrap_or_default()}}),
                );
            }
            "target_name" | "model_name" => self.set(option, json!({"target": {"name": value}})),
            "probes" => self.list(option, "include", value, "probes."),
            "exclude_probes" => self.list(option, "exclude", value, "probes."),
            "probe_tags" => self.list(option, "tags", value, ""),
            "detectors" => self.list(option, "detectors", value, ""),
            "exclude_detectors" => self.list(option, "excludeDetectors", value, ""),
            "buffs" => self.list(option, "buffs", value, "buffs."),
            "extended_detectors" => self.set(option, json!({"extendedDetectors": value})),
            "deprefix" => self.set(option, json!({"deprefix": value})),
            "buffs_include_original_prompt" => {
                self.set(option, json!({"buffsIncludeOriginalPrompt": value}));
            }
            "system_prompt" => self.set(option, json!({"systemPrompt": value})),
            "generations" => self.number(option, "generations", value, 1.0, 500.0),
            "eval_threshold" => self.number(option, "evalThreshold", value, 0.0, 1.0),
            "seed" => self.number(option, "seed", value, 0.0, f64::from(u32::MAX)),
            "parallel_attempts" | "parallel_requests" => self.in_flight(option, value),
            "timeout_per_probe" => self.timeout(option, value),
            "generator_options" => self.target_options(option, value, class),
            "probe_options" => self.plugin_options(option, "probes", value),
            "detector_options" => self.plugin_options(option, "detectors", value),
            "buff_options" => self.plugin_options(option, "buffs", value),
            _ => self.not_here(option, value),
        }
    }

    /// Takes a part of a specification in, if it is one.
    fn set(&mut self, option: &str, part: Value) {
        let merged = from_json::<ScanSpec>(part)
            .and_then(|part| aegis_proto::overlay::overlay(&self.spec, &part));
        match merged {
            Ok(spec) => self.spec = spec,
            Err(error) => self.leave(option, format!("not a value it can have: {error}")),
        }
    }

    fn list(&mut self, option: &str, field: &str, value: &Value, category: &str) {
        let words: Option<Vec<String>> = match value {
            Value::String(text) => Some(text.split(',').map(str::to_owned).collect()),
            Value::Array(values) => {
                let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
                texts.collect()
            }
            _ => None,
        };
        let Some(words) = words else {
            return self.leave(option, "neither a list of names nor a text");
        };
        let words = words
            .iter()
            .map(|word| word.trim())
            .filter(|word| !word.is_empty());
        let words = words.map(|word| match word {
            "all" | "*" => "all".to_owned(),
            word if word.starts_with(category) => word.to_owned(),
            word => format!("{category}{word}"),
        });
        self.set(option, json!({field: words.collect::<Vec<_>>()}));
    }

    fn number(&mut self, option: &str, field: &str, value: &Value, low: f64, high: f64) {
        let Some(number) = self.within(option, value, low, high) else {
            return;
        };
        self.set(option, json!({field: number}));
    }

    /// A number, also one in a text, if it is in this range.
    fn within(&mut self, option: &str, value: &Value, low: f64, high: f64) -> Option<Number> {
        let number = match value {
            Value::Number(number) => Some(number.clone()),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let fits = |number: &Number| number.as_f64().is_some_and(|n| (low..=high).contains(&n));
        let number = number.filter(fits);
        if number.is_none() {
            self.leave(
                option,
                format!("must be {low} to {high}, is {}", shown(value)),
            );
        }
        number
    }

    /// One bound here on what the old system had two for.
    fn in_flight(&mut self, option: &str, value: &Value) {
        if matches!(value, Value::Bool(_)) {
            return self.leave(option, "not a number");
        }
        let Some(number) = self.within(option, value, 1.0, 500.0) else {
            return;
        };
        let before = self.spec.max_in_flight.unwrap_or(0);
        self.set(option, json!({"maxInFlight": number}));
        self.spec.max_in_flight = self.spec.max_in_flight.map(|now| now.max(before));
    }

    fn timeout(&mut self, option: &str, value: &Value) {
        if let Some(seconds) = self.within(option, value, 1.0, 86_400.0) {
            self.set(option, json!({"probeTimeout": format!("{seconds}s")}));
        }
    }

    /// garak nests a generator's options in its module and class, or in one of the two.
    fn target_options(&mut self, option: &str, value: &Value, class: Option<&str>) {
        let mut options = value;
        if let Some((module, class)) = class.and_then(|class| class.split_once('.')) {
            for name in [module, class] {
                if let Some(inner) = options.get(name).filter(|inner| inner.is_object()) {
                    options = inner;
                }
            }
        }
        self.set(option, json!({"target": {"options": options}}));
    }

    fn plugin_options(&mut self, option: &str, category: &str, value: &Value) {
        let inner = value.get(category).unwrap_or(value);
        let part = from_json::<ScanSpec>(json!({"pluginOptions": {category: inner}}));
        match part {
            Ok(part) => {
                let fields = part.plugin_options.unwrap_or_default().fields;
                let all = self.spec.plugin_options.get_or_insert_default();
                all.fields.extend(fields);
            }
            Err(error) => self.leave(option, format!("not a value it can have: {error}")),
        }
    }

    fn not_here(&mut self, option: &str, value: &Value) {
        // A switch that is off asked for nothing.
        if *value == json!(false) || *value == json!(0) {
            return;
        }
        let known = NOT_HERE.iter().find(|(name, _)| *name == option);
        self.leave(
            option,
            known.map_or("Aegis has no such option", |(_, why)| why),
        );
    }
}

/// A value in a message, cut.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_proto::json::to_json;

    fn mapped(config: Value) -> (Value, Vec<String>) {
        let (spec, left) = spec(config.as_object().unwrap().clone());
        let names = left.into_iter().map(|left| left.option).collect();
        (to_json(&spec).unwrap(), names)
    }

    #[test]
    fn what_aegis_honours_is_taken() {
        let (spec, left) = mapped(json!({
            "target_type": "ollama", "target_name": "llama3",
            "probes": ["dan", "probes.goodside.Tag"], "exclude_probes": "dan.DanInTheWild, x.Y",
            "probe_tags": "owasp:llm01", "detectors": ["always.Pass"], "buffs": ["lowercase"],
            "exclude_detectors": ["mitigation.MitigationBypass"], "extended_detectors": false,
            "generations": "10", "eval_threshold": 0.7, "seed": 7, "deprefix": true,
            "parallel_attempts": 4, "parallel_requests": 8, "system_prompt": "Be brief.",
            "timeout_per_probe": 600, "buffs_include_original_prompt": true,
            "generator_options": {"ollama": {"OllamaGeneratorChat": {"host": "http://h:1"}}},
            "probe_options": {"dan": {"AntiDAN": {"follow_prompt_cap": false}}},
            "detector_options": {"detectors": {"always": {"Pass": {"a": 1}}}},
        }));
        assert_eq!(left, [""; 0]);
        assert_eq!(spec["target"]["type"], "ollama.OllamaGeneratorChat");
        assert_eq!(spec["target"]["options"], json!({"host": "http://h:1"}));
        assert_eq!(
            spec["include"],
            json!(["probes.dan", "probes.goodside.Tag"])
        );
        assert_eq!(
            spec["exclude"],
            json!(["probes.dan.DanInTheWild", "probes.x.Y"])
        );
        assert_eq!(spec["tags"], json!(["owasp:llm01"]));
        assert_eq!(spec["buffs"], json!(["buffs.lowercase"]));
        assert_eq!(
            (&spec["generations"], &spec["seed"]),
            (&json!(10), &json!("7"))
        );
        assert_eq!(spec["maxInFlight"], 8);
        assert_eq!(spec["probeTimeout"], "600s");
        assert_eq!(spec["systemPrompt"], "Be brief.");
        let plugins = &spec["pluginOptions"];
        assert_eq!(
            plugins["probes"]["dan"]["AntiDAN"]["follow_prompt_cap"],
            false
        );
        assert_eq!(plugins["detectors"]["always"]["Pass"]["a"], 1.0);
    }

    #[test]
    fn what_it_does_not_have_is_named() {
        let (spec, left) = mapped(json!({
            "probes": "all", "continue_on_error": true, "hit_rate": 0.5, "report_threshold": 0.1,
            "collect_timing": true, "output_dir": "/tmp", "no_report": true, "skip_unknown": true,
            "verbosity": 2, "made_up": 1, "api_key": "x",
        }));
        assert_eq!(spec["include"], json!(["all"]));
        let mut left = left;
        left.sort_unstable();
        assert_eq!(
            left,
            [
                "api_key",
                "collect_timing",
                "continue_on_error",
                "hit_rate",
                "made_up",
                "no_report",
                "output_dir",
                "report_threshold",
                "skip_unknown",
                "verbosity"
            ]
        );
    }

    #[test]
    fn what_says_nothing_is_not_named_and_a_bad_value_is() {
        let (spec, left) = mapped(json!({
            "no_report": false, "verbosity": 0, "seed": null, "buffs": [], "generator_options": {},
            "generations": 1000, "eval_threshold": "high", "deprefix": "yes", "probes": 3,
            "timeout_per_probe": 0, "parallel_attempts": false,
        }));
        assert_eq!(spec, to_json(&ScanSpec::default()).unwrap());
        let mut left = left;
        left.sort_unstable();
        assert_eq!(
            left,
            [
                "deprefix",
                "eval_threshold",
                "generations",
                "parallel_attempts",
                "probes",
                "timeout_per_probe"
            ]
        );
    }

    #[test]
    fn a_target_that_is_not_on_the_list_stays_as_it_was() {
        let (spec, _) = mapped(json!({
            "target_type": "huggingface.Model", "generator_options": {"Model": {"max_tokens": 3}},
        }));
        assert_eq!(spec["target"]["type"], "huggingface.Model");
        assert_eq!(spec["target"]["options"]["max_tokens"], 3.0);
    }
}
