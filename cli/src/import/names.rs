//! Names that the old system allowed, as names that Aegis allows.

use sha2::{Digest, Sha256};

/// Hexadecimal digits that tell names apart which would be the same.
const MARK_DIGITS: usize = 8;

/// a-z, 0-9 and `joint`, at most `most` of them, beginning with a letter or digit and ending with one.
pub(super) fn slug(name: &str, joint: char, most: usize) -> String {
    let mut made = String::new();
    for character in name.trim().to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' => made.push(character),
            _ if made.ends_with(joint) || made.is_empty() => {}
            _ => made.push(joint),
        }
    }
    cut(&made, joint, most)
}

/// The same, told apart by what the name was before.
pub(super) fn marked(slug: &str, joint: char, name: &str, most: usize) -> String {
    let mark = hex::encode(Sha256::digest(name.as_bytes()));
    let mark = &mark[..MARK_DIGITS];
    let stem = cut(slug, joint, most - MARK_DIGITS - 1);
    match stem.is_empty() {
        // A letter first, which all names may begin with.
        true => format!("x{mark}"),
        false => format!("{stem}{joint}{mark}"),
    }
}

/// ASCII alone comes here.
fn cut(text: &str, joint: char, most: usize) -> String {
    let end = text.len().min(most);
    text[..end].trim_matches(joint).to_owned()
}

/// A text of at most `most` characters without control characters but line ends.
pub(super) fn clean(text: &str, most: usize) -> String {
    let text = text.trim().replace("\r\n", "\n");
    let is_fine = |c: &char| !c.is_control() || *c == '\n';
    text.chars().filter(is_fine).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_becomes_one_that_is_allowed() {
        for (name, wanted) in [
            ("Nightly Full Scan", "nightly-full-scan"),
            ("nightly", "nightly"),
            ("  -- A/B_c!! ", "a-b-c"),
            ("Täglich", "t-glich"),
            ("毎晩", ""),
        ] {
            assert_eq!(slug(name, '-', 63), wanted);
        }
        assert_eq!(
            slug(&"ab ".repeat(50), '-', 63).len(),
            62,
            "no joint at the end"
        );
        assert_eq!(slug("MyProbe-2", '_', 63), "myprobe_2");
    }

    #[test]
    fn a_mark_tells_names_apart() {
        let marks = ["A b", "a-b", "毎晩"].map(|name| marked(&slug(name, '-', 63), '-', name, 63));
        assert!(marks[0].starts_with("a-b-") && marks[1].starts_with("a-b-"));
        assert_ne!(marks[0], marks[1]);
        assert!(marks[2].starts_with('x') && marks[2].len() == 9);
        let long = "y".repeat(80);
        assert_eq!(marked(&slug(&long, '-', 63), '-', &long, 63).len(), 63);
    }

    #[test]
    fn texts_are_bounded_and_clean() {
        assert_eq!(clean(" a\r\nb\0\u{7}c ", 10), "a\nbc");
        assert_eq!(clean("ééé", 2), "éé");
    }
}
