use serde_json::json;

use super::*;
use crate::domain::fixture::{allowance, catalogue};

fn target(generator: &str, options: Value, secret: &str) -> Target {
    Target {
        generator: generator.to_owned(),
        name: "m".to_owned(),
        options: options.as_object().unwrap().clone(),
        secret: secret.to_owned(),
    }
}

fn checked(generator: &str, options: Value, secret: &str) -> Result<(), aegis_mesh::Error> {
    let mut violations = Violations::new();
    let target = target(generator, options, secret);
    check(&target, &catalogue(), &allowance(), &mut violations);
    violations.into_result()
}

/// Asserts one violation, and gives its hint.
fn refused(result: Result<(), aegis_mesh::Error>, field: &str, reason: &str) -> String {
    let error = result.expect_err(field);
    let paths: Vec<&str> = error.fields().iter().map(|f| f.path.as_str()).collect();
    assert_eq!((error.reason(), paths), (reason, vec![field]), "{error}");
    error.hint_text().unwrap_or_default().to_owned()
}

const OPENAI: &str = "openai.OpenAICompatible";
const REST: &str = "rest.RestGenerator";

#[test]
fn only_allowed_generators_are_used() {
    assert!(checked("test.Blank", json!({}), "").is_ok());
    let refuse = |generator, reason| {
        refused(
            checked(generator, json!({}), ""),
            "spec.target.type",
            reason,
        )
    };
    assert!(refuse("", "INVALID_FIELD").contains(OPENAI));
    assert!(refuse("openai.OpenAICompatibel", "INVALID_FIELD").contains(OPENAI));
    assert!(refuse("function.Single", "GENERATOR_NOT_ALLOWED").contains(OPENAI));
    refuse("subprocess#getoutput", "INVALID_FIELD");
    // Allowed, but there is no torch here.
    refuse("huggingface.Pipeline", "GENERATOR_UNAVAILABLE");
}

#[test]
fn only_allowed_options_are_set() {
    let options = json!({"uri": "http://127.0.0.1:1/v1/", "max_tokens": 7, "stop": []});
    assert!(checked(OPENAI, options, "").is_ok());
    let hint = refused(
        checked(OPENAI, json!({"max_tokns": 7}), ""),
        "spec.target.options.max_tokns",
        "OPTION_NOT_ALLOWED",
    );
    assert!(hint.contains("max_tokens"), "{hint}");
    refused(
        checked(OPENAI, json!({"key_env_var": "HOME"}), ""),
        "spec.target.options.key_env_var",
        "OPTION_NOT_ALLOWED",
    );
}

#[test]
fn credentials_are_refused_wherever_they_are_and_never_repeated() {
    for (generator, options, field) in [
        (OPENAI, json!({"api_key": "sk-1234"}), "api_key"),
        (
            OPENAI,
            json!({"extra_params": {"extra_headers": {"X-Api-Key": "sk-1234"}}}),
            "extra_params.extra_headers.X-Api-Key",
        ),
        (OPENAI, json!({"uri": "http://user:sk-1234@host/"}), "uri"),
        (
            REST,
            json!({"headers": {"Authorization": "Bearer sk-1234"}}),
            "headers.Authorization",
        ),
    ] {
        let error = checked(generator, options.clone(), "").unwrap_err();
        assert!(!format!("{error:?}").contains("sk-1234"), "{error:?}");
        let field = format!("spec.target.options.{field}");
        let hint = refused(
            checked(generator, options, ""),
            &field,
            "OPTION_NOT_ALLOWED",
        );
        assert!(hint.contains("spec.target.secret"), "{hint}");
    }
}

#[test]
fn a_header_may_say_where_the_key_goes() {
    let good =
        json!({"headers": {"Authorization": "Bearer $KEY", "Content-Type": "application/json"}});
    assert!(checked(REST, good, "env:REST_API_KEY").is_ok());
    refused(
        checked(REST, json!({"headers": {"X-Tenant": "a"}}), ""),
        "spec.target.options.headers.X-Tenant",
        "OPTION_NOT_ALLOWED",
    );
    refused(
        checked(REST, json!({"headers": []}), ""),
        "spec.target.options.headers",
        "INVALID_FIELD",
    );
}

#[test]
fn a_secret_is_named_and_allowed_and_goes_where_it_belongs() {
    for good in ["", "env:OPENAICOMPATIBLE_API_KEY", "env:MY_KEY"] {
        assert!(checked(OPENAI, json!({}), good).is_ok(), "{good}");
    }
    for bad in ["sk-1234", "env:", "env:sk-1234", "file:/etc/passwd"] {
        let error = checked(OPENAI, json!({}), bad).unwrap_err();
        assert!(!format!("{error:?}").contains("sk-1234"), "{error:?}");
        refused(Err(error), "spec.target.secret", "SECRET_NOT_ALLOWED");
    }
    let of_another = checked(OPENAI, json!({}), "env:REST_API_KEY");
    refused(of_another, "spec.target.secret", "SECRET_NOT_ALLOWED");
    let of_none = checked("test.Blank", json!({}), "env:MY_KEY");
    refused(of_none, "spec.target.secret", "SECRET_NOT_ALLOWED");
}
