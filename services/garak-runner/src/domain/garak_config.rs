//! The scan as garak's configuration file says it. garak 0.17.1, `resources/garak.core.yaml`.

use serde_json::{Map, Value, json};

use super::probe_work::{ProbeWork, ScanOptions, Target};

/// The content of the file that garak gets as `--config`. What the scan leaves unset is left out,
/// so that garak's default holds.
pub fn garak_config(work: &ProbeWork) -> Value {
    json!({
        "system": {"lite": true},
        "run": run(work),
        "plugins": plugins(&work.target, &work.options),
        "reporting": {},
    })
}

fn run(work: &ProbeWork) -> Value {
    let options = &work.options;
    let mut include = vec![format!("probes.{}", work.probe)];
    include.extend(options.buffs.iter().cloned());
    let mut run = Map::new();
    run.insert("seed".to_owned(), json!(work.seed));
    run.insert("eval_threshold".to_owned(), json!(work.eval_threshold));
    run.insert(
        "spec".to_owned(),
        json!({"include": include, "exclude": []}),
    );
    set(&mut run, "generations", options.generations);
    set(&mut run, "deprefix", options.deprefix);
    set(&mut run, "system_prompt", options.system_prompt.as_deref());
    Value::Object(run)
}

fn plugins(target: &Target, options: &ScanOptions) -> Value {
    let mut plugins = options.plugin_options.clone();
    plugins.insert(
        "target_type".to_owned(),
        json!(target.generator.to_string()),
    );
    set(
        &mut plugins,
        "target_name",
        (!target.name.is_empty()).then_some(target.name.as_str()),
    );
    if !target.options.is_empty() {
        let (module, class) = (target.generator.module(), target.generator.class());
        let generators = json!({module: {class: target.options}});
        plugins.insert("generators".to_owned(), generators);
    }
    set(
        &mut plugins,
        "extended_detectors",
        options.extended_detectors,
    );
    set(
        &mut plugins,
        "buffs_include_original_prompt",
        options.buffs_include_original_prompt,
    );
    Value::Object(plugins)
}

fn set<T: Into<Value>>(object: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        object.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn work() -> ProbeWork {
        ProbeWork {
            probe: "dan.AntiDAN".parse().unwrap(),
            detectors: vec![],
            target: Target {
                generator: "openai.OpenAICompatible".parse().unwrap(),
                name: "llama3".to_owned(),
                options: Map::new(),
                secret: None,
            },
            options: ScanOptions::default(),
            max_in_flight: 4,
            seed: 7,
            eval_threshold: 0.5,
            patience: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            custom_probes: vec![],
        }
    }

    #[test]
    fn what_is_unset_is_left_to_garak() {
        assert_eq!(
            garak_config(&work()),
            json!({
                "system": {"lite": true},
                "run": {
                    "seed": 7, "eval_threshold": 0.5,
                    "spec": {"include": ["probes.dan.AntiDAN"], "exclude": []},
                },
                "plugins": {"target_type": "openai.OpenAICompatible", "target_name": "llama3"},
                "reporting": {},
            })
        );
    }

    #[test]
    fn every_option_has_its_place() {
        let mut work = work();
        work.target.options = json!({"uri": "http://t/v1/", "stop": []})
            .as_object()
            .unwrap()
            .clone();
        work.options = ScanOptions {
            generations: Some(1),
            buffs: vec!["buffs.lowercase".to_owned()],
            buffs_include_original_prompt: Some(false),
            extended_detectors: Some(false),
            deprefix: Some(true),
            system_prompt: Some("Be kind: {\"a\"}\n- b".to_owned()),
            plugin_options: json!({"probes": {"dan": {"AntiDAN": {"k": 1}}}})
                .as_object()
                .unwrap()
                .clone(),
        };
        assert_eq!(
            garak_config(&work),
            json!({
                "system": {"lite": true},
                "run": {
                    "seed": 7, "eval_threshold": 0.5, "generations": 1, "deprefix": true,
                    "system_prompt": "Be kind: {\"a\"}\n- b",
                    "spec": {"include": ["probes.dan.AntiDAN", "buffs.lowercase"], "exclude": []},
                },
                "plugins": {
                    "target_type": "openai.OpenAICompatible", "target_name": "llama3",
                    "generators": {"openai": {"OpenAICompatible": {"uri": "http://t/v1/", "stop": []}}},
                    "probes": {"dan": {"AntiDAN": {"k": 1}}},
                    "extended_detectors": false, "buffs_include_original_prompt": false,
                },
                "reporting": {},
            })
        );
    }
}
