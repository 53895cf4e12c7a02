//! Sources to start a custom probe from. They are whole and valid as they stand.

/// A source to start from.
#[derive(Debug, Clone, Copy)]
pub struct Starter {
    /// "minimal", "basic" or "advanced".
    pub name: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// Python.
    pub source: &'static str,
}

/// From the shortest to the longest.
pub const STARTERS: [Starter; 3] = [
    Starter {
        name: "minimal",
        description: "One probe with fixed prompts, judged by a detector of garak's.",
        source: include_str!("../../starters/minimal.py"),
    },
    Starter {
        name: "basic",
        description: "A probe with tags and a goal, and a detector of its own.",
        source: include_str!("../../starters/basic.py"),
    },
    Starter {
        name: "advanced",
        description: "Prompts made in code, triggers, and a detector that scores by degrees.",
        source: include_str!("../../starters/advanced.py"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starters_grow() {
        let lengths = STARTERS.map(|starter| starter.source.len());
        assert!(lengths.is_sorted() && lengths[0] > 0, "{lengths:?}");
    }
}
