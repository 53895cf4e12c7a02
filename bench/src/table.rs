//! The table that the README quotes.

use std::{fmt, time::Duration};

/// Rows of measured figures.
#[derive(Default)]
pub(crate) struct Table(Vec<String>);

impl Table {
    /// A figure of ours against plain garak's.
    pub(crate) fn ratio(
        &mut self,
        what: &str,
        unit: &str,
        ours: Duration,
        plain: Duration,
        goal: f64,
    ) {
        let ratio = ours.as_secs_f64() / plain.as_secs_f64();
        let goal = if goal.is_finite() {
            format!("≤ {goal}")
        } else {
            "-".to_owned()
        };
        self.0.push(format!(
            "| {what}, {unit} | {:.2} s | {:.2} s | **{ratio:.2}** | {goal} |",
            ours.as_secs_f64(),
            plain.as_secs_f64(),
        ));
    }

    /// A figure of ours against another one, and their ratio.
    pub(crate) fn compare(&mut self, what: &str, ours: &str, other: &str, ratio: f64, goal: &str) {
        self.0.push(format!(
            "| {what} | {ours} | {other} | **{ratio:.2}** | {goal} |"
        ));
    }

    /// A figure that nothing else has.
    pub(crate) fn fact(&mut self, what: &str, value: String, goal: &str) {
        self.0
            .push(format!("| {what} | {value} | - | - | {goal} |"));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| what | Aegis | plain garak, best setting, or as said | ratio | goal |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
