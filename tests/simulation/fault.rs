//! What the network does to the services, and when.

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};
use tokio::time::sleep;

/// A link that fails for a while.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) link: (&'static str, &'static str),
    pub(crate) kind: Kind,
    pub(crate) lasts: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What is sent is lost, in both directions.
    Cut,
    /// What is sent comes when it is over.
    Held,
}

impl Fault {
    pub(crate) fn cut(link: (&'static str, &'static str), lasts: Duration) -> Self {
        let kind = Kind::Cut;
        Self { link, kind, lasts }
    }

    /// Begins it; it ends by itself.
    pub(crate) fn begin(self) {
        let (a, b) = self.link;
        match self.kind {
            Kind::Cut => turmoil::partition(a, b),
            Kind::Held => turmoil::hold(a, b),
        }
        let end = async move {
            sleep(self.lasts).await;
            match self.kind {
                Kind::Cut => turmoil::repair(a, b),
                Kind::Held => turmoil::release(a, b),
            }
        };
        aegis_mesh::spawn("fault", end).detach();
    }
}

/// So many milliseconds, drawn from this range.
pub(crate) fn millis(rng: &mut SmallRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}
