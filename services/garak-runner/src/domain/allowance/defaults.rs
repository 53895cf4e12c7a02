//! The allow-list of a runner whose configuration says nothing.
//!
//! On it: garak 0.17.1's generators that do nothing but HTTP requests to a model, and those that
//! answer themselves (`test`). Judged by their source. Not on it, and why:
//! - `function`, `llm`, `langchain*`, `litellm`, `guardrails`: import and call what a name says;
//! - `ggml`, `huggingface`: execute or load files that an option names;
//! - `azure`, `bedrock`, `watsonx`, `replicate`, `nvcf`, `rasa`, `websocket`,
//!   `huggingface.Inference*`: take credentials as options, or more than one variable.
//!
//! Options not on it, and why: `key_env_var`, `client_key_passphrase_env_var` (send any variable to
//! the target), `client_cert`, `client_key`, `verify_ssl` (name files), `proxies` (another way out),
//! `api_key` (a value in a spec), `extra_params` (arguments of the HTTP client), and `uri` where a
//! generator has a service of its own, so that its key goes nowhere else.

use std::collections::BTreeSet;

use super::AllowedGenerator;

const COMMON: &[&str] = &[
    "context_len",
    "max_tokens",
    "skip_seq_end",
    "skip_seq_start",
    "temperature",
    "top_k",
];

const OPENAI: &[&str] = &[
    "frequency_penalty",
    "presence_penalty",
    "retry_json",
    "seed",
    "stop",
    "suppressed_params",
    "top_p",
    "transient_retry_codes",
];

const VARYING: &[&str] = &["vary_seed_each_call", "vary_temp_each_call"];

const OLLAMA: &[&str] = &["host", "suppressed_params", "timeout"];

const COHERE: &[&str] = &[
    "api_version",
    "frequency_penalty",
    "k",
    "p",
    "presence_penalty",
    "preset",
    "stop",
];

const REST: &[&str] = &[
    "headers",
    "method",
    "ratelimit_codes",
    "req_template",
    "req_template_json_object",
    "request_timeout",
    "response_json",
    "response_json_field",
    "skip_codes",
    "uri",
];

const LIPSUM: &[&str] = &["count", "unit"];

const REASONING_LIPSUM: &[&str] = &[
    "output_length",
    "reasoning_length",
    "respect_max_tokens",
    "variance",
];

const GENERATORS: &[(&str, &[&[&str]])] = &[
    (
        "anthropic.AnthropicGenerator",
        &[COMMON, &["suppressed_params"]],
    ),
    ("cohere.CohereGenerator", &[COMMON, COHERE]),
    ("groq.GroqChat", &[COMMON, OPENAI, VARYING]),
    ("mistral.MistralGenerator", &[COMMON]),
    ("nim.NVOpenAIChat", &[COMMON, OPENAI, VARYING]),
    ("nim.NVOpenAICompletion", &[COMMON, OPENAI, VARYING]),
    ("ollama.OllamaGenerator", &[COMMON, OLLAMA]),
    ("ollama.OllamaGeneratorChat", &[COMMON, OLLAMA]),
    ("openai.OpenAICompatible", &[COMMON, OPENAI, &["uri"]]),
    ("openai.OpenAIGenerator", &[COMMON, OPENAI]),
    (
        "openai.OpenAIReasoningGenerator",
        &[COMMON, OPENAI, &["max_completion_tokens"]],
    ),
    ("rest.RestGenerator", &[COMMON, REST]),
    ("test.Blank", &[COMMON]),
    ("test.BlankVision", &[COMMON]),
    ("test.Lipsum", &[COMMON, LIPSUM]),
    ("test.Nones", &[COMMON]),
    ("test.ReasoningLipsum", &[COMMON, LIPSUM, REASONING_LIPSUM]),
    ("test.Repeat", &[COMMON]),
    ("test.Single", &[COMMON]),
];

/// The key variables (`ENV_VAR`) that the generators above declare.
const SECRETS: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "COHERE_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "NIM_API_KEY",
    "OLLAMA_API_KEY",
    "OPENAICOMPATIBLE_API_KEY",
    "OPENAI_API_KEY",
    "REST_API_KEY",
];

/// The generators that scans may use by default.
pub fn default_generators() -> Vec<AllowedGenerator> {
    GENERATORS
        .iter()
        .map(|(name, options)| AllowedGenerator {
            name: (*name).to_owned(),
            options: options
                .iter()
                .flat_map(|keys| keys.iter())
                .map(|key| (*key).to_owned())
                .collect(),
        })
        .collect()
}

/// The secrets that scans may name by default.
pub fn default_secrets() -> BTreeSet<String> {
    SECRETS.iter().map(|name| (*name).to_owned()).collect()
}
