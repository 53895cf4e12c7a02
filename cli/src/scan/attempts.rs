//! What was asked and answered.

use aegis_mesh::Error;
use aegis_proto::report::v1::{
    Attempt, AttemptOrder, GetAttemptRequest, GetWorkflowRequest, ListAttemptsRequest, Outcome,
};
use clap::{Args, ValueEnum};
use comfy_table::Cell;

use crate::{
    client::Client,
    output::{print_json, table::table},
};

/// Characters of a text in a table.
const SHOWN: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct AttemptsArgs {
    /// The scan's id
    scan_id: String,
    /// Only this probe
    #[arg(long, default_value = "", hide_default_value = true)]
    probe: String,
    /// Only attempts that this detector judged
    #[arg(long, default_value = "", hide_default_value = true)]
    detector: String,
    /// Only attempts with this outcome
    #[arg(long, value_enum)]
    outcome: Option<OutcomeArg>,
    /// Occurs in prompt or output
    #[arg(long, default_value = "", hide_default_value = true)]
    text: String,
    /// Hits first
    #[arg(long)]
    hits_first: bool,
    /// Attempts on a page
    #[arg(long, default_value_t = 20)]
    page_size: i32,
    /// The token that the page before ended with
    #[arg(long, default_value = "", hide_default_value = true)]
    page_token: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutcomeArg {
    Hit,
    Pass,
    None,
}

#[derive(Debug, Args)]
pub(crate) struct AttemptArgs {
    /// The scan's id
    scan_id: String,
    /// The attempt's id
    attempt_id: String,
    /// Its probe: finds it faster
    #[arg(long, default_value = "", hide_default_value = true)]
    probe: String,
}

#[derive(Debug, Args)]
pub(crate) struct WorkflowArgs {
    /// The scan's id
    scan_id: String,
    /// Only this probe
    #[arg(long, default_value = "", hide_default_value = true)]
    probe: String,
    /// Nodes at most
    #[arg(long, default_value_t = 200)]
    max_nodes: i32,
}

/// Prints a page of attempts.
pub(super) async fn list(client: &Client, as_json: bool, args: AttemptsArgs) -> anyhow::Result<()> {
    let outcome = args.outcome.map_or(Outcome::Unspecified, outcome);
    let order = match args.hits_first {
        true => AttemptOrder::HitsFirst,
        false => AttemptOrder::Report,
    };
    let request = ListAttemptsRequest {
        scan_id: args.scan_id,
        probe: args.probe,
        detector: args.detector,
        outcome: outcome.into(),
        page_size: args.page_size,
        page_token: args.page_token,
        text: args.text,
        order_by: order.into(),
    };
    let answer = client.reports().list_attempts(request).await;
    let page = answer.map_err(Error::from)?.into_inner();
    if as_json {
        return print_json(&page);
    }
    let mut rows = table(&["attempt", "probe", "outcome", "prompt", "output"]);
    for attempt in &page.attempts {
        let prompt = attempt.prompt.last().map_or("", |turn| &turn.text);
        let output = attempt
            .outputs
            .iter()
            .find_map(|output| output.text.as_ref());
        rows.add_row([
            Cell::new(&attempt.attempt_id),
            Cell::new(&attempt.probe),
            Cell::new(judged(attempt)),
            Cell::new(short(prompt)),
            Cell::new(output.map_or_else(|| "-".to_owned(), |text| short(text))),
        ]);
    }
    println!("{rows}");
    if !page.next_page_token.is_empty() {
        println!("more: --page-token {}", page.next_page_token);
    }
    Ok(())
}

/// Prints one attempt.
pub(super) async fn show(client: &Client, args: AttemptArgs) -> anyhow::Result<()> {
    let request = GetAttemptRequest {
        scan_id: args.scan_id,
        attempt_id: args.attempt_id,
        probe: args.probe,
    };
    let answer = client.reports().get_attempt(request).await;
    print_json(&answer.map_err(Error::from)?.into_inner())
}

/// Prints the graph.
pub(super) async fn workflow(
    client: &Client,
    as_json: bool,
    args: WorkflowArgs,
) -> anyhow::Result<()> {
    let request = GetWorkflowRequest {
        scan_id: args.scan_id,
        probe: args.probe,
        max_nodes: args.max_nodes,
    };
    let answer = client.reports().get_workflow(request).await;
    let answer = answer.map_err(Error::from)?.into_inner();
    if as_json {
        return print_json(&answer);
    }
    println!("{}", answer.mermaid);
    Ok(())
}

/// A hit of any detector is a hit.
fn judged(attempt: &Attempt) -> &'static str {
    let by = |wanted: Outcome| attempt.detectors.iter().any(|one| one.outcome() == wanted);
    match (by(Outcome::Hit), by(Outcome::Pass)) {
        (true, _) => "hit",
        (false, true) => "pass",
        (false, false) => "none",
    }
}

/// The beginning of a text, in one line, without what a terminal would obey.
fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}

fn outcome(outcome: OutcomeArg) -> Outcome {
    match outcome {
        OutcomeArg::Hit => Outcome::Hit,
        OutcomeArg::Pass => Outcome::Pass,
        OutcomeArg::None => Outcome::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_said_cannot_command_the_terminal() {
        assert_eq!(short("a\u{1b}[31mb\nc"), "a [31mb c");
        assert_eq!(short(&"é".repeat(101)).chars().count(), 101);
    }
}
