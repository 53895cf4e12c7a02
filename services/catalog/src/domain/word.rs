//! Closed sets of words that are stored as text.

/// Text in the database that is none of the words it should be: a fault of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// Which set of words.
    pub of: &'static str,
    /// What stood there.
    pub text: String,
}

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is no {}", self.text, self.of)
    }
}

impl std::error::Error for UnknownWord {}

/// An enum whose variants are words: `as_str`, `Display`, `FromStr` and serde.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word as it is stored.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::domain::UnknownWord { of: stringify!($name), text: text.to_owned() }),
                }
            }
        }
    };
}

pub(crate) use words;
