//! The shapes that prompts, outputs and notes have had over garak's versions.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_LISTED;
use crate::error::LineError;
use crate::line::{Score, Str};

/// The first [`MAX_LISTED`] items of a list.
#[derive(Debug)]
pub(crate) struct List<'a, T> {
    pub(crate) items: Vec<T>,
    pub(super) has_more: bool,
    line: PhantomData<&'a ()>,
}

impl<T> List<'_, T> {
    pub(super) fn of(items: Vec<T>) -> Self {
        Self::first_of(items, false)
    }

    pub(super) fn first_of(items: Vec<T>, has_more: bool) -> Self {
        Self {
            items,
            has_more,
            line: PhantomData,
        }
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for List<'a, T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = (Vec<T>, bool);

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or null")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok((Vec::new(), false))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX_LISTED {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok((items, false)),
                    }
                }
                let mut has_more = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    has_more = true;
                }
                Ok((items, has_more))
            }
        }
        let (items, has_more) = input.deserialize_any(Items(PhantomData))?;
        Ok(Self {
            items,
            has_more,
            line: PhantomData,
        })
    }
}

/// The text of a message: a string (up to 0.12), an object's `text`, or none.
#[derive(Debug, Default)]
pub(super) struct Message<'a>(pub(super) Option<Str<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Message<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message, a string or null")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Message(Some(Str(Cow::Borrowed(text)))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Message(Some(Str(Cow::Owned(text.to_owned())))))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Message(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut text = Message(None);
                while let Some(Str(key)) = map.next_key()? {
                    if key == "text" {
                        text = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(text)
            }
        }
        input.deserialize_any(Text)
    }
}

/// One turn of a conversation.
#[derive(Debug, Deserialize)]
pub(super) struct Turn<'a> {
    #[serde(borrow, default)]
    pub(super) role: Str<'a>,
    #[serde(borrow, default)]
    pub(super) content: Message<'a>,
}

/// A prompt: a string (up to 0.12), a message, or a conversation.
#[derive(Debug, Default)]
pub(super) struct Prompt<'a>(pub(super) List<'a, Turn<'a>>);

impl<'a> Prompt<'a> {
    pub(super) fn user(text: Cow<'a, str>) -> Self {
        let content = Message(Some(Str(text)));
        Self(List::of(vec![Turn {
            role: Str(Cow::Borrowed("user")),
            content,
        }]))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Prompt<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Turns;
        impl<'de> Visitor<'de> for Turns {
            type Value = Prompt<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a conversation, its turns, a message, a string or null")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Prompt::user(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Prompt::user(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Prompt::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                List::deserialize(SeqAccessDeserializer::new(list)).map(Prompt)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut prompt = Prompt::default();
                while let Some(Str(key)) = map.next_key()? {
                    match &*key {
                        "turns" => prompt = Prompt(map.next_value()?),
                        "text" => {
                            if let Some(Str(text)) = map.next_value::<Message<'de>>()?.0 {
                                prompt = Prompt::user(text);
                            }
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(prompt)
            }
        }
        input.deserialize_any(Turns)
    }
}

/// The scores of each detector, in the line's order.
#[derive(Debug, Default)]
pub(super) struct Scores(pub(super) Vec<Vec<Option<f64>>>);

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Lists;
        impl<'de> Visitor<'de> for Lists {
            type Value = Scores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of scores by detector")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scores::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut scores = Vec::new();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    let list: List<'de, Score> = map.next_value()?;
                    scores.push(list.items.into_iter().map(|Score(score)| score).collect());
                }
                Ok(Scores(scores))
            }
        }
        input.deserialize_any(Lists)
    }
}

/// A value as text: a string as it is, null as none, all else as JSON.
pub(super) fn any_text(value: &RawValue) -> Option<Cow<'_, str>> {
    match serde_json::from_str::<Message<'_>>(value.get()) {
        _ if value.get().starts_with('{') => Some(Cow::Borrowed(value.get())),
        Ok(Message(text)) => text.map(|Str(text)| text),
        Err(_) => Some(Cow::Borrowed(value.get())), // a number, a boolean or a list
    }
}

/// A value as texts: a list's items, or the value itself.
pub(super) fn any_texts(value: &RawValue) -> Result<List<'_, Str<'_>>, LineError> {
    if !value.get().starts_with('[') {
        return Ok(List::of(any_text(value).map(Str).into_iter().collect()));
    }
    let list: List<'_, &RawValue> = serde_json::from_str(value.get())?;
    let items = list
        .items
        .into_iter()
        .filter_map(any_text)
        .map(Str)
        .collect();
    Ok(List {
        items,
        has_more: list.has_more,
        line: PhantomData,
    })
}
