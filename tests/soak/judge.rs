//! Whether something grows.
//!
//! The first third of the time is left out: pools fill, allocators get what they need, garak warms
//! up. Of the rest, growth is the larger of two things:
//! - the median of the slopes between all pairs of samples (Theil and Sen), times its length: steady
//!   growth, however slow, and no single sample or burst moves it;
//! - the median of its last third less that of its first: growth by rare steps, such as a table
//!   that doubles.
//!
//! Growth that is more than allowed is a leak. What is allowed is a part of the first median and
//! something besides; `measures.rs` says how much of what.

use anyhow::{Result, ensure};

/// What is left out, of the whole time.
const WARM_UP: f64 = 1.0 / 3.0;
/// With fewer samples nothing is said.
const LEAST: usize = 24;

/// A sample: when, in seconds, and how much.
pub(crate) type Sample = (f64, f64);

/// How much growth is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Of the first median.
    pub(crate) part: f64,
    /// And so much.
    pub(crate) besides: f64,
}

/// What is made of the samples of one thing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict {
    /// Median of the first third after the warm-up.
    pub(crate) first: f64,
    /// Median of the last third.
    pub(crate) last: f64,
    /// Median slope, times the length.
    pub(crate) drift: f64,
    /// How much it might have grown.
    pub(crate) allowed: f64,
}

impl Verdict {
    /// By how much it grew.
    pub(crate) fn growth(&self) -> f64 {
        self.drift.max(self.last - self.first)
    }

    /// Whether that is more than allowed.
    pub(crate) fn is_leak(&self) -> bool {
        self.growth() > self.allowed
    }
}

/// Judges samples, which are in the order of their times.
///
/// # Errors
/// When there are too few of them.
pub(crate) fn judge(samples: &[Sample], allowed: Allowed) -> Result<Verdict> {
    let [first, .., last] = samples else {
        anyhow::bail!("no samples");
    };
    let warm = first.0 + (last.0 - first.0) * WARM_UP;
    let rest = &samples[samples.partition_point(|(at, _)| *at < warm)..];
    ensure!(rest.len() >= LEAST, "{} samples are too few", rest.len());
    let third = rest.len() / 3;
    let first = median(rest[..third].iter().map(|(_, value)| *value).collect());
    let ending = &rest[rest.len() - third..];
    let length = rest[rest.len() - 1].0 - rest[0].0;
    Ok(Verdict {
        first,
        last: median(ending.iter().map(|(_, value)| *value).collect()),
        drift: slope(rest) * length,
        allowed: first * allowed.part + allowed.besides,
    })
}

/// The median of the slopes between all pairs.
fn slope(samples: &[Sample]) -> f64 {
    let mut slopes = Vec::with_capacity(samples.len() * samples.len() / 2);
    for (number, (at, value)) in samples.iter().enumerate() {
        for (later, then) in &samples[number + 1..] {
            slopes.push((then - value) / (later - at));
        }
    }
    median(slopes)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}
