//! Fisher's exact test.

/// Outputs of one probe that one detector judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Below the threshold.
    pub passed: u64,
    /// At or above it.
    pub failed: u64,
}

impl Counts {
    fn total(self) -> u64 {
        self.passed + self.failed
    }

    /// passed / (passed + failed), 0 to 1; `None` when nothing was evaluated.
    pub fn pass_rate(self) -> Option<f64> {
        (self.total() > 0).then(|| self.passed as f64 / self.total() as f64)
    }
}

/// Tables as likely as the observed one count as such although rounding tells them apart; the
/// factor is R's and SciPy's.
const AS_LIKELY: f64 = 1.0 + 1e-7;
/// Terms past this share of the sum do not change it.
const NEGLIGIBLE: f64 = 1e-17;

/// How likely it is to see two pass rates that differ as much or more, when both are outputs of
/// the same thing: the two-sided p-value of Fisher's exact test, 0 to 1.
///
/// R. A. Fisher, "On the interpretation of χ² from contingency tables, and the calculation of P",
/// Journal of the Royal Statistical Society 85 (1922), 87-94; two-sided as R's `fisher.test` and
/// SciPy's `fisher_exact` have it: the sum over all tables with the same margins that are at most
/// as likely as the observed one. Exact also where there are few failures, where a χ² test is not.
///
/// Work grows with the square root of the counts: both tails are found by bisection and summed
/// outwards until nothing is left.
pub fn two_sided(one: Counts, other: Counts) -> f64 {
    let tables = Tables::of(one, other);
    let mode = tables.mode();
    let limit = tables.ln_probability(one.passed) + AS_LIKELY.ln();
    if tables.first == tables.last || tables.ln_probability(mode) <= limit {
        return 1.0;
    }
    let unlikely = |passed| tables.ln_probability(passed) <= limit;
    // Towards the mode tables get likelier, from both sides.
    let below = partition(tables.first, mode, unlikely);
    let above = partition(mode + 1, tables.last + 1, |passed| !unlikely(passed));
    let left = (below > tables.first).then(|| tables.sum_down(below - 1));
    let right = (above <= tables.last).then(|| tables.sum_up(above));
    (left.unwrap_or(0.0) + right.unwrap_or(0.0)).min(1.0)
}

/// The first number of `from..to` for which `holds` does not hold; it holds for all before.
fn partition(mut from: u64, mut to: u64, holds: impl Fn(u64) -> bool) -> u64 {
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}

/// All tables with these margins, by how many of the first row passed.
struct Tables {
    one: u64,
    other: u64,
    passed: u64,
    first: u64,
    last: u64,
    ln_all: f64,
}

impl Tables {
    fn of(one: Counts, other: Counts) -> Self {
        let passed = one.passed + other.passed;
        let (one, other) = (one.total(), other.total());
        Self {
            one,
            other,
            passed,
            first: passed.saturating_sub(other),
            last: passed.min(one),
            ln_all: ln_choose(one + other, passed),
        }
    }

    /// The likeliest of them.
    fn mode(&self) -> u64 {
        let (one, passed) = (u128::from(self.one), u128::from(self.passed));
        let all = u128::from(self.one) + u128::from(self.other);
        let mode = (one + 1) * (passed + 1) / (all + 2);
        u64::try_from(mode)
            .unwrap_or(u64::MAX)
            .clamp(self.first, self.last)
    }

    /// Of the hypergeometric distribution.
    fn ln_probability(&self, passed: u64) -> f64 {
        ln_choose(self.one, passed) + ln_choose(self.other, self.passed - passed) - self.ln_all
    }

    fn sum_down(&self, from: u64) -> f64 {
        let down = |passed: u64| {
            let failed_other = self.other - (self.passed - passed);
            (passed as f64 * failed_other as f64)
                / ((self.one - passed + 1) as f64 * (self.passed - passed + 1) as f64)
        };
        self.sum(from, (self.first + 1..=from).rev().map(down))
    }

    fn sum_up(&self, from: u64) -> f64 {
        let up = |passed: u64| {
            let failed_other = self.other - (self.passed - passed);
            ((self.one - passed) as f64 * (self.passed - passed) as f64)
                / ((passed + 1) as f64 * (failed_other + 1) as f64)
        };
        self.sum(from, (from..self.last).map(up))
    }

    /// The sum from one table outwards; `ratios` are each next table's probability to its own.
    fn sum(&self, from: u64, ratios: impl Iterator<Item = f64>) -> f64 {
        let mut term = self.ln_probability(from).exp();
        let mut sum = term;
        for ratio in ratios {
            term *= ratio;
            if term <= sum * NEGLIGIBLE {
                break;
            }
            sum += term;
        }
        sum
    }
}

/// ln of "n choose k".
fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

fn ln_factorial(n: u64) -> f64 {
    libm::lgamma(n as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn p([a, b, c, d]: [u64; 4]) -> f64 {
        let one = Counts {
            passed: a,
            failed: b,
        };
        let other = Counts {
            passed: c,
            failed: d,
        };
        two_sided(one, other)
    }

    /// Computed with `scipy.stats.fisher_exact([[a, b], [c, d]]).pvalue`, SciPy 1.17.1.
    const SCIPY: [([u64; 4], f64); 19] = [
        ([1, 9, 11, 3], 0.0027594561852200836),
        ([8, 2, 1, 5], 0.034965034965034975),
        ([0, 10, 10, 0], 1.082508822446903e-05),
        ([172, 46, 90, 127], 9.041009036526073e-16),
        ([61, 118, 2, 1], 0.27535061623459417),
        ([1200, 80, 1100, 180], 5.7492833082664864e-11),
        ([1280, 0, 1279, 1], 1.0),
        ([100_000, 0, 99_990, 10], 0.0019526855754935803),
        ([640_000, 360_000, 641_500, 358_500], 0.02715755040940953),
        ([500_000, 500_000, 500_000, 500_000], 1.0),
        ([0, 0, 3, 4], 1.0),
        ([5, 0, 7, 0], 1.0),
        ([2_000_000, 1_000_000, 1_000_000, 2_000_000], 0.0),
        ([3, 1, 1, 3], 0.48571428571428565),
        ([10, 10, 10, 10], 1.0),
        ([1, 0, 0, 1], 1.0),
        ([12, 5, 29, 2], 0.08026855207410463),
        ([255, 1, 0, 256], 1.0877079825033895e-150),
        ([9_000, 1_000, 90, 10], 1.0),
    ];

    #[test]
    fn it_is_scipys() {
        for (table, expected) in SCIPY {
            let got = p(table);
            let near = (got - expected).abs() <= expected * 1e-7;
            assert!(near, "{table:?}: {got} instead of {expected}");
        }
    }

    #[test]
    fn large_counts_stay_fast() {
        let begun = std::time::Instant::now();
        for n in 0..1_000 {
            let p = p([2_000_000 + n, 1_000_000, 2_000_000, 1_000_000 + n]);
            assert!((0.0..=1.0).contains(&p));
        }
        // Summing all 3 million tables of each would take minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }

    /// By the definition, in plain fractions: for small tables.
    fn by_definition([a, b, c, d]: [u64; 4]) -> f64 {
        fn choose(n: u64, k: u64) -> f64 {
            (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
        }
        let (one, other, passed) = (a + b, c + d, a + c);
        let weight = |x: u64| choose(one, x) * choose(other, passed - x);
        let all = passed.saturating_sub(other)..=passed.min(one);
        let unlikely = all
            .clone()
            .map(weight)
            .filter(|w| *w <= weight(a) * AS_LIKELY);
        unlikely.sum::<f64>() / all.map(weight).sum::<f64>()
    }

    proptest! {
        #[test]
        fn small_tables_are_as_defined(table: [u8; 4]) {
            let table = table.map(|n| u64::from(n % 25));
            let (got, expected) = (p(table), by_definition(table));
            prop_assert!((got - expected).abs() < 1e-9, "{got} instead of {expected}");
        }

        #[test]
        fn it_takes_no_side([a, b, c, d] in [0..5_000_u64, 0..5_000, 0..5_000, 0..5_000]) {
            let forth = p([a, b, c, d]);
            prop_assert!((0.0..=1.0).contains(&forth));
            for back in [p([c, d, a, b]), p([b, a, d, c])] {
                prop_assert!((forth - back).abs() <= 1e-9 * forth.max(1e-300), "{forth} {back}");
            }
        }
    }
}
