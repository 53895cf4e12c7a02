//! The fields of an attempt in all the shapes that they have had. What is of no shape that is known
//! is shown as the JSON that it is: a report is there to be read.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::value::{List, Message, Prompt, Scores, Turn, any_texts};
use crate::error::LineError;
use crate::line::Str;
use crate::object::pick;

/// An attempt's fields as they are written.
pub(super) struct Full<'a> {
    pub(super) goal: Option<&'a RawValue>,
    pub(super) intent: Option<&'a RawValue>,
    prompt: Option<&'a RawValue>,
    /// Up to 0.12 strings, later messages.
    outputs: Option<&'a RawValue>,
    detector_results: Option<&'a RawValue>,
    notes: Option<&'a RawValue>,
    /// Since 0.13.
    conversations: Option<&'a RawValue>,
    /// Up to 0.12: for each output the turns that led to it.
    messages: Option<&'a RawValue>,
}

const FIELDS: [&str; 8] = [
    "goal",
    "intent",
    "prompt",
    "outputs",
    "detector_results",
    "notes",
    "conversations",
    "messages",
];

/// The triggers among an attempt's notes: `triggers`, up to 0.10 `trigger`.
pub(crate) fn triggers_of(notes: Option<&RawValue>) -> Option<&RawValue> {
    let notes = notes.filter(|notes| notes.get().starts_with('{'))?;
    let [triggers, trigger] = pick(notes.get(), ["triggers", "trigger"]).ok()?;
    triggers.or(trigger)
}

impl<'a> Full<'a> {
    pub(super) fn parse(line: &'a str) -> Result<Self, LineError> {
        let [
            goal,
            intent,
            prompt,
            outputs,
            detector_results,
            notes,
            conversations,
            messages,
        ] = pick(line, FIELDS)?;
        Ok(Self {
            goal,
            intent,
            prompt,
            outputs,
            detector_results,
            notes,
            conversations,
            messages,
        })
    }

    pub(super) fn prompt(&self) -> Prompt<'a> {
        let Some(value) = self.prompt else {
            return Prompt::default();
        };
        serde_json::from_str(value.get())
            .unwrap_or_else(|_| Prompt::user(Cow::Borrowed(value.get())))
    }

    pub(super) fn outputs(&self) -> List<'a, Message<'a>> {
        let Some(value) = self.outputs else {
            return List::default();
        };
        serde_json::from_str(value.get()).unwrap_or_else(|_| {
            let text = Cow::Borrowed(value.get());
            List::of(vec![Message(Some(Str(text)))])
        })
    }

    pub(super) fn scores(&self) -> Result<Scores, LineError> {
        let Some(value) = self.detector_results else {
            return Ok(Scores::default());
        };
        Ok(serde_json::from_str(value.get())?)
    }

    /// The notes, unless there are none.
    pub(super) fn notes(&self) -> Option<&'a RawValue> {
        self.notes.filter(|notes| notes.get() != "{}")
    }

    pub(super) fn triggers(&self) -> List<'a, Str<'a>> {
        triggers_of(self.notes)
            .and_then(|triggers| any_texts(triggers).ok())
            .unwrap_or_default()
    }

    /// A conversation is an object with `turns`, or a list of them; before 0.10 there was but one,
    /// the list itself.
    pub(super) fn conversations(&self) -> List<'a, List<'a, Turn<'a>>> {
        let Some(value) = self.conversations.or(self.messages) else {
            return List::default();
        };
        let Ok(all) = serde_json::from_str::<List<'a, &'a RawValue>>(value.get()) else {
            return List::default();
        };
        let is_turn = |value: &&RawValue| value.get().starts_with('{') && turn(value).is_some();
        if all.items.first().is_some_and(is_turn) {
            let turns = all.items.iter().filter_map(|value| turn(value)).collect();
            return List::of(vec![List::first_of(turns, all.has_more)]);
        }
        let each = all.items.iter();
        let each = each.filter_map(|value| serde_json::from_str::<Prompt<'a>>(value.get()).ok());
        let conversations = each.map(|conversation| conversation.0).collect();
        List::first_of(conversations, all.has_more)
    }
}

/// A turn says whose it is; a conversation does not.
fn turn<'a>(value: &'a RawValue) -> Option<Turn<'a>> {
    let turn = serde_json::from_str::<Turn<'a>>(value.get()).ok()?;
    (!turn.role.0.is_empty()).then_some(turn)
}
