//! Errors, for a person or as JSON.

use aegis_mesh::{Error, json::error_body};

/// Says on standard error what went wrong, which fields, and what to do next.
pub(crate) fn print_error(error: &anyhow::Error, as_json: bool) {
    match error.downcast_ref::<Error>() {
        Some(error) if as_json => eprintln!("{}", error_body(error)),
        Some(error) => print_refusal(error),
        None => eprintln!("error: {error:#}"),
    }
}

fn print_refusal(error: &Error) {
    eprintln!("error: {} ({})", error.message(), error.reason());
    for field in error.fields() {
        eprintln!("  {}: {}", field.path, field.description);
    }
    if let Some(hint) = error.hint_text() {
        eprintln!("hint: {hint}");
    }
}
