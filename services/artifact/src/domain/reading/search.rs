//! Text that is looked for.

use aegis_mesh::{Error, Result};
use regex::{Regex, RegexBuilder};

/// Fewest characters of a text that is looked for.
pub const MIN_TEXT_CHARS: usize = 2;
/// Most characters of a text that is looked for.
pub const MAX_TEXT_CHARS: usize = 200;

/// A text, found whatever the case: by Unicode's simple case folding, as `regex` has it.
#[derive(Debug, Clone)]
pub struct TextMatch(Regex);

impl TextMatch {
    /// Of a text that is taken literally.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD when it is too short or too long.
    pub fn new(text: &str) -> Result<Self> {
        let chars = text.chars().count();
        if !(MIN_TEXT_CHARS..=MAX_TEXT_CHARS).contains(&chars) {
            let what =
                format!("{chars} characters; {MIN_TEXT_CHARS} to {MAX_TEXT_CHARS} are taken");
            let message = format!("text: {what}");
            return Err(Error::invalid_argument("INVALID_FIELD", message).field("text", what));
        }
        let pattern = RegexBuilder::new(&regex::escape(text))
            .case_insensitive(true)
            .size_limit(4 << 20)
            .build();
        Ok(Self(pattern.map_err(Error::internal)?))
    }

    /// Whether it occurs.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use super::TextMatch;

    #[test]
    fn case_does_not_matter_in_any_script() {
        for (text, within) in [
            ("PASSWORD", "the password is"),
            ("straße", "STRAßE 1"),
            ("ÄRGER", "viel ärger"),
            ("σοφός", "ΣΟΦΌΣ"),
            ("привет", "ПРИВЕТ!"),
            ("a.c*", "xA.C*x"),
            ("\u{212a}m", "5 km"),
        ] {
            assert!(
                TextMatch::new(text).unwrap().is_in(within),
                "{text} in {within}"
            );
        }
        assert!(
            !TextMatch::new("a.c").unwrap().is_in("abc"),
            "taken literally"
        );
        assert!(
            !TextMatch::new("ss").unwrap().is_in("ß"),
            "simple folding keeps the length"
        );
    }

    #[test]
    fn the_longest_text_of_the_widest_case_can_be_looked_for() {
        assert!(
            TextMatch::new(&"ſ".repeat(200))
                .unwrap()
                .is_in(&"S".repeat(200))
        );
        for bad in ["", "x", &"x".repeat(201)] {
            assert_eq!(TextMatch::new(bad).unwrap_err().fields()[0].path, "text");
        }
    }
}
