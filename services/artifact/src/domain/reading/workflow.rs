//! What a scan did, as a bounded graph: probe, prompts, outputs, findings; and a timeline.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use aegis_mesh::Result;
use aegis_proto::ids::{ProjectId, ScanId};
use aegis_report::Attempt;
use aegis_report::attempt::Text;
use aegis_report::index::ProbeEntry;

use super::Reports;
use super::budget::Budget;
use super::filling::Filling;
use super::mermaid;
use super::open::Opened;
use super::query::Order;
use super::walk::Walk;
use crate::domain::registry::{Moment, Source};

/// Characters of a label at most.
const LABEL_CHARS: usize = 200;
/// Attempts that are read in one go.
const ATTEMPTS: usize = 64;
/// Outputs of one attempt that are shown; hits go first.
const MAX_OUTPUTS: usize = 16;

/// Which graph.
#[derive(Debug, Clone)]
pub struct WorkflowQuery {
    /// The scan.
    pub scan: ScanId,
    /// `None` is every probe.
    pub probe: Option<String>,
    /// Nodes at most.
    pub max_nodes: usize,
}

/// The graph and the timeline.
#[derive(Debug, Default)]
pub struct Workflow {
    /// The graph.
    pub graph: Graph,
    /// In time's order.
    pub timeline: Vec<Timed>,
    /// Attempts that are not in the graph.
    pub omitted: u64,
}

/// Nodes, and who leads to whom by their places.
#[derive(Debug, Default)]
pub struct Graph {
    /// The nodes; a node comes after the one that leads to it.
    pub nodes: Vec<Node>,
    /// From, to.
    pub edges: Vec<(usize, usize)>,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The probe it belongs to.
    pub probe: String,
    /// garak's id of the attempt; empty for a probe.
    pub attempt: String,
    /// In one line of 200 characters at most.
    pub label: String,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// A probe.
    Probe,
    /// What was said to the target.
    Prompt,
    /// What it answered.
    Output,
    /// What a detector called a hit.
    Finding {
        /// The detector.
        detector: String,
        /// Its score.
        score: f64,
    },
}

/// A moment of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// When.
    pub time: Option<SystemTime>,
    /// Empty for what is about the scan.
    pub probe: String,
    /// UPPER_SNAKE.
    pub kind: String,
    /// Attempts of the probe that were hits, once it is evaluated.
    pub hits: u64,
    /// Attempts of the probe, once it is evaluated.
    pub attempts: u64,
}

impl Workflow {
    /// The graph as a Mermaid flowchart.
    pub fn mermaid(&self) -> String {
        mermaid::flowchart(&self.graph)
    }
}

impl Reports {
    /// The graph of a scan, hits first, as large as asked for, and its timeline.
    ///
    /// # Errors
    /// NOT_FOUND / PROBE_NOT_EVALUATED; DATA_LOSS / ARTIFACT_CORRUPT.
    pub async fn workflow(&self, project: &ProjectId, query: &WorkflowQuery) -> Result<Workflow> {
        let sources: Vec<Source> = match &query.probe {
            Some(probe) => vec![self.registry.locate(project, query.scan, probe).await?],
            None => self.registry.locate_all(project, query.scan).await?,
        };
        let files = self.files.open_all(sources).await?;
        let moments = self.registry.moments(project, query.scan).await?;
        let counts = counts(&files);
        let total: u64 = counts.values().map(|(_, attempts)| attempts).sum();
        let (graph, shown) = self.graph(files, query.max_nodes).await?;
        Ok(Workflow {
            graph,
            timeline: timeline(moments, query.probe.as_deref(), &counts),
            omitted: total.saturating_sub(shown),
        })
    }

    /// The graph, and how many attempts are in it.
    async fn graph(&self, files: Vec<Opened>, max_nodes: usize) -> Result<(Graph, u64)> {
        let mut walk = Walk::over(&self.files, files, Order::HitsFirst);
        let mut budget = Budget::of_a_call();
        let mut growing = Growing::new(max_nodes);
        let mut is_over = false;
        while !is_over && budget.has_bytes() {
            let mut page = Filling::new(ATTEMPTS);
            is_over = page.fill_some(&mut walk, &mut budget).await?;
            for attempt in page.into_attempts() {
                if !growing.add(&attempt) {
                    return Ok(growing.into_graph());
                }
            }
        }
        Ok(growing.into_graph())
    }
}

/// Hits and attempts of each probe.
fn counts(files: &[Opened]) -> HashMap<String, (u64, u64)> {
    let entries = files.iter().flat_map(Opened::probes);
    let count = |entry: &ProbeEntry| {
        let hits = entry.classes.map_or(0, |classes| classes.hits);
        (entry.name.clone(), (hits, entry.count))
    };
    entries.map(count).collect()
}

fn timeline(
    moments: Vec<Moment>,
    probe: Option<&str>,
    counts: &HashMap<String, (u64, u64)>,
) -> Vec<Timed> {
    let moments = moments.into_iter().filter(|moment| {
        moment.probe.is_empty() || probe.is_none_or(|probe| probe == moment.probe)
    });
    let timed = moments.map(|moment| {
        let known = counts
            .get(&moment.probe)
            .filter(|_| moment.kind == "PROBE_EVALUATED");
        let (hits, attempts) = known.copied().unwrap_or_default();
        Timed {
            time: moment.time,
            probe: moment.probe,
            kind: moment.kind,
            hits,
            attempts,
        }
    });
    timed.collect()
}

/// A graph that grows attempt by attempt.
struct Growing {
    graph: Graph,
    max_nodes: usize,
    probes: HashMap<String, usize>,
    shown: u64,
}

impl Growing {
    fn new(max_nodes: usize) -> Self {
        Self {
            graph: Graph::default(),
            max_nodes,
            probes: HashMap::new(),
            shown: 0,
        }
    }

    fn into_graph(self) -> (Graph, u64) {
        (self.graph, self.shown)
    }

    /// Adds an attempt if there is room for its probe, its prompt and an output at least; of more
    /// outputs those are left out for which there is none.
    fn add(&mut self, attempt: &Attempt) -> bool {
        let probe = self.probes.get(&attempt.probe).copied();
        let least = 2 + usize::from(probe.is_none()) + hits_of(attempt, 0).len().min(1);
        if self.graph.nodes.len() + least > self.max_nodes {
            return false;
        }
        let probe = probe.unwrap_or_else(|| self.add_probe(&attempt.probe));
        let prompt = attempt.prompt.last().and_then(|turn| turn.content.as_ref());
        let prompt = self.node(probe, NodeKind::Prompt, attempt, label(prompt, "(no text)"));
        for place in hits_first(attempt).into_iter().take(MAX_OUTPUTS) {
            if self.graph.nodes.len() == self.max_nodes {
                break;
            }
            let text = attempt.outputs[place].as_ref();
            let label = label(text, "(no answer)");
            let output = self.node(prompt, NodeKind::Output, attempt, label);
            for (detector, score) in hits_of(attempt, place) {
                if self.graph.nodes.len() == self.max_nodes {
                    break;
                }
                let label = one_line(&format!("{detector} {score}"));
                let detector = detector.to_owned();
                self.node(
                    output,
                    NodeKind::Finding { detector, score },
                    attempt,
                    label,
                );
            }
        }
        self.shown += 1;
        true
    }

    fn add_probe(&mut self, name: &str) -> usize {
        let place = self.graph.nodes.len();
        self.graph.nodes.push(Node {
            kind: NodeKind::Probe,
            probe: name.to_owned(),
            attempt: String::new(),
            label: one_line(name),
        });
        self.probes.insert(name.to_owned(), place);
        place
    }

    /// A node that `from` leads to.
    fn node(&mut self, from: usize, kind: NodeKind, attempt: &Attempt, label: String) -> usize {
        let place = self.graph.nodes.len();
        self.graph.nodes.push(Node {
            kind,
            probe: attempt.probe.clone(),
            attempt: attempt.uuid.clone(),
            label,
        });
        self.graph.edges.push((from, place));
        place
    }
}

/// The detectors that hit an output, and their scores.
fn hits_of(attempt: &Attempt, output: usize) -> Vec<(&str, f64)> {
    let judged = attempt.detectors.iter().filter_map(|of| {
        let score = of.scores.get(output).copied().flatten()?;
        of.is_hit(score).then_some((of.detector.as_str(), score))
    });
    judged.collect()
}

/// The places of the outputs.
fn hits_first(attempt: &Attempt) -> Vec<usize> {
    let all = 0..attempt.outputs.len();
    let hit: HashSet<usize> = all
        .clone()
        .filter(|place| !hits_of(attempt, *place).is_empty())
        .collect();
    let mut places: Vec<usize> = all.collect();
    places.sort_by_key(|place| !hit.contains(place));
    places
}

fn label(text: Option<&Text>, without: &str) -> String {
    text.map_or_else(|| without.to_owned(), |text| one_line(&text.text))
}

/// Without line breaks and other controls, cut.
fn one_line(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = printable.take(LABEL_CHARS).collect();
    if text.chars().nth(LABEL_CHARS).is_some() {
        line.pop();
        line.push('…');
    }
    line
}
