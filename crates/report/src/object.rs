//! A JSON object whose values stay the bytes they are: fields can be replaced
//! or dropped and all else is written back unchanged and in its order.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::Serialize;
use serde_json::value::RawValue;

use crate::error::LineError;
use crate::line::{Str, text};

/// Most fields of a line; garak's setup line has about a hundred.
const MAX_FIELDS: usize = 4096;

/// The fields of one line, in their order.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> Object<'a> {
    /// Reads the outermost level of a line.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        Ok(serde_json::from_str(text(line)?)?)
    }

    /// The value of a field as JSON.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.get())
    }

    /// The fields that the line has, in its order.
    pub(crate) fn into_fields(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.0.into_iter().filter_map(|(name, value)| match value {
            Cow::Borrowed(value) => Some((name, value)),
            Cow::Owned(_) => None,
        })
    }

    /// The value of a field if it is a string.
    pub(crate) fn get_str(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Replaces the value of a field, or adds the field at the end.
    pub(crate) fn set(&mut self, name: &'a str, value: &impl Serialize) -> Result<(), LineError> {
        let value = Cow::Owned(serde_json::value::to_raw_value(value)?);
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((Cow::Borrowed(name), value)),
        }
        Ok(())
    }

    /// Adds a field at the end whose value is taken as it is; `null` without one.
    pub(crate) fn add(
        &mut self,
        name: &'a str,
        value: Option<&'a RawValue>,
    ) -> Result<(), LineError> {
        let value = match value {
            Some(value) => Cow::Borrowed(value),
            None => Cow::Owned(serde_json::value::to_raw_value(&())?),
        };
        self.0.push((Cow::Borrowed(name), value));
        Ok(())
    }

    /// Drops a field.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    /// Writes the object and a line break, spaced as Python's `json` does.
    pub(crate) fn write_line(&self, out: &mut impl Write) -> io::Result<()> {
        let mut separator = "{";
        for (key, value) in &self.0 {
            out.write_all(separator.as_bytes())?;
            serde_json::to_writer(&mut *out, key)?;
            out.write_all(b": ")?;
            out.write_all(value.get().as_bytes())?;
            separator = ", ";
        }
        out.write_all(if self.0.is_empty() { b"{}\n" } else { b"}\n" })
    }
}

/// The values of some fields of an object, each the last of its name, as Python has it; none where
/// there is none, or `null`.
pub(crate) fn pick<'a, const N: usize>(
    json: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], LineError> {
    struct Fields<const N: usize>([&'static str; N]);
    impl<'de, const N: usize> Visitor<'de> for Fields<N> {
        type Value = [Option<&'de RawValue>; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut picked = [None; N];
            while let Some(Str(key)) = map.next_key()? {
                match self.0.iter().position(|name| *name == key) {
                    Some(place) => picked[place] = map.next_value()?,
                    None => drop(map.next_value::<de::IgnoredAny>()?),
                }
            }
            Ok(picked)
        }
    }
    let mut input = serde_json::Deserializer::from_str(json);
    let picked = input.deserialize_map(Fields(names))?;
    input.end()?;
    Ok(picked)
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(Str(key)) = map.next_key()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(de::Error::custom("too many fields"));
                    }
                    fields.push((key, Cow::Borrowed(map.next_value::<&RawValue>()?)));
                }
                Ok(Object(fields))
            }
        }
        input.deserialize_map(Fields)
    }
}
