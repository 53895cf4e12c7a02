//! Statements that took long are logged: their text, never their values.

use std::time::Duration;

use sea_orm::metric::Info;

/// The rest of a longer statement says nothing new.
const SHOWN: usize = 400;

/// Logs a statement that took longer than `limit`.
pub(crate) fn note(run: &Info<'_>, limit: Option<Duration>) {
    if let Some((elapsed_ms, statement)) = slow(run, limit) {
        tracing::warn!(
            elapsed_ms,
            failed = run.failed,
            statement,
            "a slow statement"
        );
    }
}

/// Milliseconds and text of a slow statement.
fn slow(run: &Info<'_>, limit: Option<Duration>) -> Option<(u64, String)> {
    limit.filter(|limit| run.elapsed >= *limit)?;
    let elapsed = u64::try_from(run.elapsed.as_millis()).unwrap_or(u64::MAX);
    Some((elapsed, shown(&run.statement.sql)))
}

/// In one line. Values are not in it: all are sent beside their statement.
fn shown(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{DatabaseBackend, Statement};

    use super::*;

    #[test]
    fn a_slow_statement_is_shown_in_one_short_line_without_its_values() {
        let sql = format!("SELECT $1\n    FROM {}", "é ".repeat(1_000));
        let values = ["a secret prompt".into()];
        let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, sql, values);
        let run = Info {
            elapsed: Duration::from_millis(600),
            statement: &statement,
            failed: false,
        };
        let (elapsed, line) = slow(&run, Some(Duration::from_millis(500))).unwrap();
        assert_eq!(elapsed, 600);
        assert!(line.starts_with("SELECT $1 FROM é é") && !line.contains("secret"));
        assert_eq!(line.chars().count(), SHOWN + 1);
        assert_eq!(slow(&run, Some(Duration::from_millis(601))), None);
        assert_eq!(slow(&run, None), None);
    }
}
