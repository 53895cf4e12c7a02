//! The values within a line that are read in a way of their own.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{MAX_DETECTORS_PER_ATTEMPT, MAX_NAME_BYTES};
use crate::tally::DetectorTally;

/// A string that borrows from the line when it can; null is the empty string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Str<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or null")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Str::default())
            }
        }
        input.deserialize_any(Text)
    }
}

/// The name of a probe or detector as `module.Class`, at most
/// [`MAX_NAME_BYTES`] long; empty when it is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name<'a>(Cow<'a, str>);

impl Name<'_> {
    /// The name without any prefix.
    pub fn as_str(&self) -> &str {
        let name = &*self.0;
        let prefixes = ["probes.", "detectors.", "detector."];
        prefixes
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name)
    }
}

impl<'a> From<Str<'a>> for Name<'a> {
    fn from(text: Str<'a>) -> Self {
        Self(text.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let Str(name) = Str::deserialize(input)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(de::Error::custom("name too long"));
        }
        Ok(Name(name))
    }
}

/// The key of an object that has just one.
pub(super) struct OnlyKey<'a>(pub(super) Option<Str<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for OnlyKey<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = OnlyKey<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let first = map
                    .next_entry::<Str<'de>, IgnoredAny>()?
                    .map(|(key, _)| key);
                let mut several = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    several = true;
                }
                let fits = |key: &Str<'_>| !several && key.0.len() <= MAX_NAME_BYTES;
                Ok(OnlyKey(first.filter(fits)))
            }
        }
        input.deserialize_map(Keys)
    }
}

/// How many outputs an attempt has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputCounts {
    /// All, nulls included.
    pub total: u64,
    /// Nulls: the target gave no answer.
    pub nulls: u64,
}

impl<'de> Deserialize<'de> for OutputCounts {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Outputs;
        impl<'de> Visitor<'de> for Outputs {
            type Value = OutputCounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of outputs")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(OutputCounts::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut counts = OutputCounts::default();
                while let Some(output) = list.next_element::<Option<IgnoredAny>>()? {
                    counts.total += 1;
                    counts.nulls += u64::from(output.is_none());
                }
                Ok(counts)
            }
        }
        input.deserialize_any(Outputs)
    }
}

/// One detector's score of one output: 0.0 to 1.0, or null.
///
/// garak takes what Python's `float()` takes; detectors give numbers and
/// booleans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score(pub(crate) Option<f64>);

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Score;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or null")
            }

            fn visit_f64<E>(self, score: f64) -> Result<Score, E> {
                Ok(Score(Some(score)))
            }

            fn visit_u64<E>(self, score: u64) -> Result<Score, E> {
                Ok(Score(Some(score as f64)))
            }

            fn visit_i64<E>(self, score: i64) -> Result<Score, E> {
                Ok(Score(Some(score as f64)))
            }

            fn visit_bool<E>(self, score: bool) -> Result<Score, E> {
                Ok(Score(Some(f64::from(u8::from(score)))))
            }

            fn visit_unit<E>(self) -> Result<Score, E> {
                Ok(Score(None))
            }
        }
        input.deserialize_any(Number)
    }
}

/// Counts the scores of every detector without keeping them.
pub(super) struct Detectors {
    pub(super) threshold: f64,
}

impl<'de> DeserializeSeed<'de> for Detectors {
    type Value = Vec<(Name<'de>, DetectorTally)>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Detectors {
    type Value = Vec<(Name<'de>, DetectorTally)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of scores by detector")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut detectors = Vec::new();
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if detectors.len() == MAX_DETECTORS_PER_ATTEMPT {
                return Err(de::Error::custom("too many detectors"));
            }
            let counts = map.next_value_seed(Scores {
                threshold: self.threshold,
            })?;
            detectors.push((name, counts));
        }
        Ok(detectors)
    }
}

struct Scores {
    threshold: f64,
}

impl<'de> DeserializeSeed<'de> for Scores {
    type Value = DetectorTally;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Scores {
    type Value = DetectorTally;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of scores")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut counts = DetectorTally::default();
        while let Some(Score(score)) = list.next_element()? {
            match score {
                None => counts.nones += 1,
                Some(score) if score < self.threshold => counts.passed += 1,
                Some(_) => counts.failed += 1,
            }
        }
        counts.evaluated = counts.passed + counts.failed;
        Ok(counts)
    }
}
