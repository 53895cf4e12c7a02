//! One attempt in full, as a person wants to see it.

mod full;
mod value;

use self::full::Full;
pub(crate) use self::full::triggers_of;
pub(crate) use self::value::List;
use self::value::{Message, Scores, any_text};
use crate::error::LineError;
use crate::index::Outcome;
use crate::line::{self, Entry, with_python_numbers};
use crate::tally::DetectorTally;

/// Most turns, outputs, triggers, detectors, and scores of one detector that a
/// view of an attempt has; [`Attempt::is_truncated`] says if there were more.
pub const MAX_LISTED: usize = 1024;

/// How much text a view of an attempt may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextBounds {
    /// Bytes of any one text.
    pub max_text_bytes: usize,
    /// Bytes of all texts together; what comes after is cut to nothing.
    pub max_total_bytes: usize,
}

impl Default for TextBounds {
    /// 64 KiB a text, 1 MiB together.
    fn default() -> Self {
        Self {
            max_text_bytes: 64 << 10,
            max_total_bytes: 1 << 20,
        }
    }
}

/// A text that may have been cut, always between characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text or its beginning.
    pub text: String,
    /// Whether some of it is missing.
    pub truncated: bool,
}

/// One turn of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said; `None` if it was no text (an image, say).
    pub content: Option<Text>,
}

/// What one detector made of the outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorScores {
    /// `module.Class`.
    pub detector: String,
    /// One score for each output, 0.0 to 1.0; `None` could not be scored.
    pub scores: Vec<Option<f64>>,
    /// The scores counted with the threshold.
    pub counts: DetectorTally,
    /// Over all outputs.
    pub outcome: Outcome,
    /// The threshold that the scores were held against.
    pub eval_threshold: f64,
}

impl DetectorScores {
    /// Whether an output with this score is a hit.
    pub fn is_hit(&self, score: f64) -> bool {
        score >= self.eval_threshold
    }
}

/// An attempt of any garak version.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The attempt's id, a UUID.
    pub uuid: String,
    /// Number of the prompt within the probe; -1 when not given.
    pub seq: i64,
    /// 1 once sent, 2 once detectors have seen it.
    pub status: i64,
    /// The probe that made it (`module.Class`).
    pub probe: String,
    /// What the probe is after, in a few words.
    pub goal: Option<Text>,
    /// garak's code for the intent (since 0.16).
    pub intent: Option<Text>,
    /// The prompt's turns; one of the role `user` in most probes.
    pub prompt: Vec<Turn>,
    /// The target's last answers, one for each generation; `None` is no answer.
    pub outputs: Vec<Option<Text>>,
    /// What the detectors made of the outputs, in the line's order.
    pub detectors: Vec<DetectorScores>,
    /// Strings that the detectors look for.
    pub triggers: Vec<Text>,
    /// The probe's notes as JSON, triggers included; `None` if there are none.
    pub notes: Option<Text>,
    /// What was said, one conversation for each output where garak kept them; only of
    /// [`Attempt::parse_whole`].
    pub conversations: Vec<Vec<Turn>>,
    /// Whether anything is missing: a text was cut or a list was.
    pub is_truncated: bool,
}

impl Attempt {
    /// Reads the line of an attempt, with or without its line break.
    /// `eval_threshold` decides the outcomes. Conversations are left out: mostly they say again
    /// what prompt and outputs do.
    ///
    /// # Errors
    /// [`LineError`] if it is not the line of an attempt.
    pub fn parse(line: &[u8], eval_threshold: f64, bounds: TextBounds) -> Result<Self, LineError> {
        with_python_numbers(line, |line| read(line, eval_threshold, bounds, false))
    }

    /// As [`Attempt::parse`], with the conversations.
    ///
    /// # Errors
    /// [`LineError`] if it is not the line of an attempt.
    pub fn parse_whole(
        line: &[u8],
        eval_threshold: f64,
        bounds: TextBounds,
    ) -> Result<Self, LineError> {
        with_python_numbers(line, |line| read(line, eval_threshold, bounds, true))
    }
}

/// Whether `matches` says so of any text of an attempt's prompt, outputs or conversations, each
/// taken whole, as long as it may be.
///
/// # Errors
/// [`LineError`] if it is not the line of an attempt.
pub fn any_text_matches(line: &[u8], matches: impl Fn(&str) -> bool) -> Result<bool, LineError> {
    with_python_numbers(line, |line| {
        let full = Full::parse(line::text(line)?)?;
        let said =
            |turn: &value::Turn<'_>| turn.content.0.as_ref().is_some_and(|text| matches(&text.0));
        let output = |output: &Message<'_>| output.0.as_ref().is_some_and(|text| matches(&text.0));
        Ok(full.prompt().0.items.iter().any(said)
            || full.outputs().items.iter().any(output)
            || full
                .conversations()
                .items
                .iter()
                .any(|turns| turns.items.iter().any(said)))
    })
}

fn read(
    line: &[u8],
    eval_threshold: f64,
    bounds: TextBounds,
    has_conversations: bool,
) -> Result<Attempt, LineError> {
    let Entry::Attempt(brief) = line::parse(line)? else {
        return Err(LineError::new("not an attempt"));
    };
    let full = Full::parse(line::text(line)?)?;
    let mut cut = Cutter::new(bounds);
    let (prompt, outputs, triggers) = (full.prompt(), full.outputs(), full.triggers());
    let conversations = if has_conversations {
        full.conversations()
    } else {
        List::default()
    };
    let counted = brief.detectors(eval_threshold)?;
    let (scored, has_more_scores) = detectors(&counted, full.scores()?, eval_threshold);
    Ok(Attempt {
        uuid: cut.text(&brief.uuid.0).text,
        seq: brief.seq,
        status: brief.status,
        probe: brief.probe.as_str().to_owned(),
        goal: full.goal.and_then(any_text).map(|text| cut.text(&text)),
        intent: full.intent.and_then(any_text).map(|text| cut.text(&text)),
        prompt: cut.turns(&prompt.0),
        outputs: cut
            .list(&outputs)
            .iter()
            .map(|output| cut.message(output))
            .collect(),
        triggers: cut
            .list(&triggers)
            .iter()
            .map(|trigger| cut.text(&trigger.0))
            .collect(),
        notes: full.notes().map(|notes| cut.text(notes.get())),
        conversations: cut
            .list(&conversations)
            .iter()
            .map(|turns| cut.turns(turns))
            .collect(),
        is_truncated: cut.has_cut || has_more_scores,
        detectors: scored,
    })
}

/// What detectors said, and whether any of it is missing.
fn detectors(
    counted: &[(line::Name<'_>, DetectorTally)],
    scores: Scores,
    eval_threshold: f64,
) -> (Vec<DetectorScores>, bool) {
    let mut is_cut = false;
    let listed = counted
        .iter()
        .zip(scores.0)
        .map(|((name, counts), scores)| {
            is_cut |= scores.len() as u64 != counts.evaluated + counts.nones;
            DetectorScores {
                detector: name.as_str().to_owned(),
                scores,
                counts: *counts,
                outcome: Outcome::from(counts),
                eval_threshold,
            }
        });
    (listed.collect(), is_cut)
}

/// Copies texts as long as the bounds allow.
struct Cutter {
    max_text_bytes: usize,
    left: usize,
    has_cut: bool,
}

impl Cutter {
    fn new(bounds: TextBounds) -> Self {
        let TextBounds {
            max_text_bytes,
            max_total_bytes,
        } = bounds;
        Self {
            max_text_bytes,
            left: max_total_bytes,
            has_cut: false,
        }
    }

    fn text(&mut self, text: &str) -> Text {
        let end = text.floor_char_boundary(self.max_text_bytes.min(self.left));
        let truncated = end < text.len();
        self.left -= end;
        self.has_cut |= truncated;
        Text {
            text: text[..end].to_owned(),
            truncated,
        }
    }

    fn message(&mut self, message: &Message<'_>) -> Option<Text> {
        message.0.as_ref().map(|text| self.text(&text.0))
    }

    fn turns(&mut self, turns: &List<'_, value::Turn<'_>>) -> Vec<Turn> {
        self.list(turns)
            .iter()
            .map(|turn| self.turn(turn))
            .collect()
    }

    fn turn(&mut self, turn: &value::Turn<'_>) -> Turn {
        Turn {
            role: self.text(&turn.role.0).text,
            content: self.message(&turn.content),
        }
    }

    /// The items of a list; notes when there were more.
    fn list<'l, T>(&mut self, list: &'l List<'_, T>) -> &'l [T] {
        self.has_cut |= list.has_more;
        &list.items
    }
}
