//! "Did you mean …?"

/// How many names a hint has at most.
const SHOWN: usize = 3;
/// How unlike a name may be and still be meant, 0 to 1.
const LEAST_LIKENESS: f64 = 0.75;

/// The names most like this one, as a hint; none when nothing is like it.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = name.to_lowercase();
    let mut alike: Vec<_> = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&wanted, &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let names: Vec<_> = alike.into_iter().take(SHOWN).map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_strangers_not_at_all() {
        let known = ["dan.AntiDAN", "dan.DanInTheWild", "goodside.Tag"];
        let hint = did_you_mean("dan.AntiDan", known);
        assert!(hint.is_some_and(|hint| hint.starts_with("did you mean dan.AntiDAN")));
        assert_eq!(did_you_mean("zzzzzz", known), None);
    }
}
