//! Names that are near to a wrong one.

/// How many are offered.
const MAX_OFFERED: usize = 3;
/// Jaro-Winkler similarity, 0 to 1, under which a name is no help.
const SIMILAR: f64 = 0.8;
/// What is longer is no slip of the hand.
const MAX_LENGTH: usize = 128;

/// The names that are nearest to `wrong`, best first; none when nothing is near.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if wrong.len() > MAX_LENGTH {
        return Vec::new();
    }
    let lower = wrong.to_lowercase();
    let mut near: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter()
        .take(MAX_OFFERED)
        .map(|(_, name)| name)
        .collect()
}

/// "a, b, c", cut after `limit` names.
pub fn listed<'a>(names: impl Iterator<Item = &'a str>, limit: usize) -> String {
    let all: Vec<&str> = names.collect();
    let mut text = all
        .iter()
        .take(limit)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    if all.len() > limit {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_name() {
        let names = ["dan.AntiDAN", "dan.AutoDAN", "encoding.InjectROT13"];
        assert_eq!(nearest("dan.AntiDan", names.into_iter())[0], "dan.AntiDAN");
        assert_eq!(
            nearest("encoding.InjectRot13", names.into_iter())[0],
            "encoding.InjectROT13"
        );
        assert!(nearest("zzz", names.into_iter()).is_empty());
        assert!(nearest(&"d".repeat(10_000), names.into_iter()).is_empty());
    }
}
