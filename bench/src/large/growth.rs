//! How cost grows with history.

use std::collections::BTreeMap;

use super::{
    cost::{Cost, ms},
    goals::Goals,
    store::{Backend, Size},
};

/// What was asked for at each size, by kind and database.
#[derive(Default)]
pub(super) struct Growth {
    costs: BTreeMap<(&'static str, Backend), Questions>,
}

/// What each question cost, by how many scans there were.
type Questions = BTreeMap<String, BTreeMap<u64, Answer>>;

/// What a question cost, and how many rows the answer had.
struct Answer {
    rows: usize,
    cost: Cost,
}

impl Growth {
    pub(super) fn add(
        &mut self,
        kind: &'static str,
        size: Size,
        question: &str,
        rows: usize,
        cost: Cost,
    ) {
        let questions = self.costs.entry((kind, size.backend)).or_default();
        let sizes = questions.entry(question.to_owned()).or_default();
        sizes.insert(size.scans, Answer { rows, cost });
    }

    /// From the smallest size to the largest, of all questions together and of the one that grows
    /// most. An answer that has more rows with more scans has grown itself, and is left out: of
    /// one target there are scans on each day only when there are many.
    pub(super) fn judge(&self, goals: &mut Goals) {
        for ((kind, backend), questions) in &self.costs {
            let pairs = questions.iter().filter_map(|(question, sizes)| {
                let (small, large) = (sizes.first_key_value()?, sizes.last_key_value()?);
                (small.0 < large.0).then_some((question, small, large))
            });
            let (pairs, longer): (Vec<_>, Vec<_>) =
                pairs.partition(|(_, small, large)| small.1.rows == large.1.rows);
            let Some((_, (from, _), (to, _))) = pairs.first() else {
                continue;
            };
            let sum = |of: fn(&Cost) -> f64| {
                let small = pairs
                    .iter()
                    .map(|(_, small, _)| of(&small.1.cost))
                    .sum::<f64>();
                let large = pairs
                    .iter()
                    .map(|(_, _, large)| of(&large.1.cost))
                    .sum::<f64>();
                large / small
            };
            let p50 = sum(|cost| ms(cost.p50));
            let cpu = sum(|cost| ms(cost.all_cpu()));
            let worst = pairs.iter().map(|(question, small, large)| {
                (ms(large.1.cost.p50) / ms(small.1.cost.p50), question)
            });
            let worst = worst.max_by(|a, b| a.0.total_cmp(&b.0));
            let (most, question) = worst.map_or((0.0, ""), |(most, of)| (most, of.as_str()));
            goals.judge(
                &format!("{kind} on {}, from {from} to {to} scans", backend.name()),
                "≤ 1.5 times",
                &format!(
                    "p50 {p50:.2}, CPU {cpu:.2} times; at most p50 {most:.2} ({question}); \
                     {} answers have more rows, and are not counted",
                    longer.len()
                ),
                p50.max(cpu).max(most) <= 1.5,
            );
        }
    }
}
