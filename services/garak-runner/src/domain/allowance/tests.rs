use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::domain::probe_work::ScanOptions;

fn catalogue() -> Catalogue {
    Catalogue::parse(
        br#"{"generators": {
                "openai.OpenAICompatible": {"key_env_var": "OPENAICOMPATIBLE_API_KEY"},
                "openai.OpenAIGenerator": {"key_env_var": "OPENAI_API_KEY"},
                "rest.RestGenerator": {"key_env_var": "REST_API_KEY"},
                "test.Blank": {"key_env_var": null}},
            "probes": {"atkgen.Tox": {"option_keys": ["red_team_model_type", "convs_per_generation"]},
                       "tap.TAPCached": {"option_keys": ["prompts_filename"]}},
            "buffs": {}, "detectors": {"judge.Refusal": {"option_keys": ["detector_model_config", "skip"]}}}"#,
    )
    .unwrap()
}

fn work(generator: &str, options: Value, secret: Option<&str>) -> ProbeWork {
    ProbeWork {
        probe: "dan.AntiDAN".parse().unwrap(),
        detectors: vec![],
        target: Target {
            generator: generator.parse().unwrap(),
            name: "m".to_owned(),
            options: options.as_object().unwrap().clone(),
            secret: secret.map(str::to_owned),
        },
        options: ScanOptions::default(),
        max_in_flight: 1,
        seed: 0,
        eval_threshold: 0.5,
        patience: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        custom_probes: vec![],
    }
}

fn reason(work: &ProbeWork) -> Option<&'static str> {
    Allowance::default()
        .check(work, &catalogue())
        .err()
        .map(|refusal| refusal.reason)
}

/// Whoever changes the default must read `defaults.rs` first, then this list.
#[test]
fn the_default_allow_list_is_exactly_this() {
    let listed: Vec<String> = default_generators()
        .into_iter()
        .map(|g| {
            format!(
                "{}: {}",
                g.name,
                g.options.into_iter().collect::<Vec<_>>().join(" ")
            )
        })
        .collect();
    let common = "context_len max_tokens skip_seq_end skip_seq_start temperature top_k";
    let chat = "context_len frequency_penalty max_tokens presence_penalty retry_json seed skip_seq_end \
                skip_seq_start stop suppressed_params temperature top_k top_p transient_retry_codes";
    let varying = format!("{chat} vary_seed_each_call vary_temp_each_call");
    let ollama = "context_len host max_tokens skip_seq_end skip_seq_start suppressed_params temperature timeout top_k";
    let expected = [
        "anthropic.AnthropicGenerator: context_len max_tokens skip_seq_end skip_seq_start suppressed_params temperature top_k".to_owned(),
        "cohere.CohereGenerator: api_version context_len frequency_penalty k max_tokens p presence_penalty preset skip_seq_end skip_seq_start stop temperature top_k".to_owned(),
        format!("groq.GroqChat: {varying}"),
        format!("mistral.MistralGenerator: {common}"),
        format!("nim.NVOpenAIChat: {varying}"),
        format!("nim.NVOpenAICompletion: {varying}"),
        format!("ollama.OllamaGenerator: {ollama}"),
        format!("ollama.OllamaGeneratorChat: {ollama}"),
        format!("openai.OpenAICompatible: {chat} uri"),
        format!("openai.OpenAIGenerator: {chat}"),
        "openai.OpenAIReasoningGenerator: context_len frequency_penalty max_completion_tokens max_tokens presence_penalty retry_json seed skip_seq_end skip_seq_start stop suppressed_params temperature top_k top_p transient_retry_codes".to_owned(),
        "rest.RestGenerator: context_len headers max_tokens method ratelimit_codes req_template req_template_json_object request_timeout response_json response_json_field skip_codes skip_seq_end skip_seq_start temperature top_k uri".to_owned(),
        format!("test.Blank: {common}"),
        format!("test.BlankVision: {common}"),
        "test.Lipsum: context_len count max_tokens skip_seq_end skip_seq_start temperature top_k unit".to_owned(),
        format!("test.Nones: {common}"),
        "test.ReasoningLipsum: context_len count max_tokens output_length reasoning_length respect_max_tokens skip_seq_end skip_seq_start temperature top_k unit variance".to_owned(),
        format!("test.Repeat: {common}"),
        format!("test.Single: {common}"),
    ];
    assert_eq!(listed, expected);
    let secrets = "ANTHROPIC_API_KEY COHERE_API_KEY GROQ_API_KEY MISTRAL_API_KEY NIM_API_KEY \
                   OLLAMA_API_KEY OPENAICOMPATIBLE_API_KEY OPENAI_API_KEY REST_API_KEY";
    assert_eq!(
        default_secrets().into_iter().collect::<Vec<_>>(),
        secrets.split_whitespace().collect::<Vec<_>>()
    );
}

#[test]
fn a_generator_that_runs_code_is_refused() {
    for generator in [
        "function.Single",
        "ggml.GgmlGenerator",
        "langchain.LangChainLLMGenerator",
    ] {
        assert_eq!(
            reason(&work(generator, json!({}), None)),
            Some("GENERATOR_NOT_ALLOWED")
        );
    }
}

#[test]
fn an_option_that_is_not_listed_is_refused() {
    for (generator, option) in [
        ("rest.RestGenerator", "key_env_var"),
        ("rest.RestGenerator", "client_cert"),
        ("rest.RestGenerator", "proxies"),
        ("openai.OpenAICompatible", "api_key"),
        ("openai.OpenAICompatible", "extra_params"),
        ("openai.OpenAIGenerator", "uri"),
        ("test.Blank", "generators"),
    ] {
        let work = work(generator, json!({option: "x"}), None);
        assert_eq!(reason(&work), Some("OPTION_NOT_ALLOWED"), "{option}");
    }
    let uri = json!({"uri": "http://127.0.0.1:1/v1/", "stop": []});
    assert_eq!(reason(&work("openai.OpenAICompatible", uri, None)), None);
}

#[test]
fn a_header_names_the_key_and_never_bears_it() {
    let of = |headers: Value| {
        reason(&work(
            "rest.RestGenerator",
            json!({"headers": headers}),
            None,
        ))
    };
    assert_eq!(
        of(json!({"Content-Type": "application/json", "Authorization": "Bearer $KEY"})),
        None
    );
    assert_eq!(of(json!({"X-Api-Key": "$KEY"})), None);
    for headers in [
        json!({"Authorization": "Bearer sk-123"}),
        json!({"X-Api-Key": "0123"}),
        json!({"Authorization": "Bearer sk123456789012345 $KEY"}),
        json!({"Content-Type": 7}),
        json!("Authorization: x"),
    ] {
        assert_eq!(of(headers.clone()), Some("OPTION_NOT_ALLOWED"), "{headers}");
    }
}

#[test]
fn a_secret_goes_only_where_it_belongs() {
    let with = |generator, secret| reason(&work(generator, json!({}), Some(secret)));
    assert_eq!(
        with("openai.OpenAICompatible", "OPENAICOMPATIBLE_API_KEY"),
        None
    );
    assert_eq!(
        with("openai.OpenAICompatible", "PATH"),
        Some("SECRET_NOT_ALLOWED")
    );
    // else a scan could have OpenAI's key sent to an address of its own choice
    assert_eq!(
        with("openai.OpenAICompatible", "OPENAI_API_KEY"),
        Some("SECRET_NOT_ALLOWED")
    );
    assert_eq!(
        with("test.Blank", "REST_API_KEY"),
        Some("SECRET_NOT_ALLOWED")
    );

    let mut allowance = Allowance::default();
    allowance.secrets.insert("STAGING_KEY".to_owned());
    let work = work("openai.OpenAICompatible", json!({}), Some("STAGING_KEY"));
    assert_eq!(allowance.check(&work, &catalogue()), Ok(()));
}

#[test]
fn plugin_options_lead_nowhere_else() {
    let of = |options: Value| {
        let mut work = work("test.Blank", json!({}), None);
        work.options.plugin_options = options.as_object().unwrap().clone();
        reason(&work)
    };
    assert_eq!(
        of(json!({"probes": {"atkgen": {"Tox": {"convs_per_generation": 3}}}})),
        None
    );
    assert_eq!(
        of(json!({"detectors": {"judge": {"Refusal": {"skip": true}}}})),
        None
    );
    for options in [
        json!({"probes": {"atkgen": {"Tox": {"red_team_model_type": "function.Single"}}}}),
        json!({"probes": {"tap": {"TAPCached": {"prompts_filename": "/etc/passwd"}}}}),
        json!({"detectors": {"judge": {"Refusal": {"detector_model_config": {}}}}}),
        json!({"probes": {"atkgen": {"Tox": {"generators": {}}}}}),
        json!({"probes": {"atkgen": {"primary_detector": "always.Pass"}}}),
        json!({"probes": {"atkgen": {"Nope": {"x": 1}}}}),
        json!({"generators": {"rest": {"RestGenerator": {"key_env_var": "PATH"}}}}),
        json!({"harnesses": {}}),
        json!({"probes": 3}),
    ] {
        assert_eq!(of(options.clone()), Some("OPTION_NOT_ALLOWED"), "{options}");
    }
}

/// Every option of garak 0.17.1's plugins that looks as if it names a generator, a file or a data set.
#[test]
fn the_unsafe_options_of_garak_are_recognised() {
    for option in [
        "agent_config_file",
        "attack_hf_dataset",
        "attack_hf_dataset_load_kwargs",
        "attack_model_config",
        "attack_model_name",
        "attack_model_type",
        "data_path",
        "dataset_name",
        "detector_model_config",
        "detector_model_name",
        "detector_model_path",
        "detector_model_type",
        "evaluator_model_type",
        "hf_args",
        "lexicon",
        "para_model_name",
        "parse_model_type",
        "pii_data_path",
        "prompts_filename",
        "red_team_model_config",
        "red_team_model_name",
        "red_team_model_type",
        "system_prompt_sources",
        "tokenizer_kwargs",
    ] {
        assert!(plugin_options::is_unsafe(option), "{option}");
    }
    for option in [
        "payloads",
        "follow_prompt_cap",
        "case_sensitive",
        "substances",
        "width",
    ] {
        assert!(!plugin_options::is_unsafe(option), "{option}");
    }
}

#[test]
fn a_buff_is_only_ever_a_buff() {
    let of = |buff: &str| {
        let mut work = work("test.Blank", json!({}), None);
        work.options.buffs = vec![buff.to_owned()];
        reason(&work)
    };
    assert_eq!(of("buffs.lowercase"), None);
    assert_eq!(of("buffs.lowercase.Lowercase"), None);
    for buff in ["probes.dan", "buffs", "buffs.", "buffs.a.b.c", "tag:owasp"] {
        assert_eq!(of(buff), Some("INVALID_SPEC"), "{buff}");
    }
}
