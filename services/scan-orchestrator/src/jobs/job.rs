//! The jobs that keep the store in order.

use std::time::Duration;

use crate::config::JobsConfig;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Gc,
    Scrub,
    Retention,
    Purge,
    Fold,
    Expire,
    Compact,
}

impl Job {
    /// All, as they are listed.
    pub(crate) const ALL: [Self; 7] = [
        Self::Gc,
        Self::Scrub,
        Self::Retention,
        Self::Purge,
        Self::Fold,
        Self::Expire,
        Self::Compact,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gc => "gc",
            Self::Scrub => "scrub",
            Self::Retention => "retention",
            Self::Purge => "purge",
            Self::Fold => "fold",
            Self::Expire => "expire",
            Self::Compact => "compact",
        }
    }

    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Gc => "Deletes files that nothing refers to, after a time of grace",
            Self::Scrub => {
                "Looks whether each file that there should be is there, and is what it was"
            }
            Self::Retention => {
                "Deletes ended scans by age and number, if told to; they can be restored"
            }
            Self::Purge => "Takes deleted scans apart that cannot be restored any more",
            Self::Fold => "Adds what changed to the sums that statistics are read from",
            Self::Expire => "Forgets old requests, trials of custom probes, and runs",
            Self::Compact => "Shortens the logs of scans that ended long ago",
        }
    }

    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    pub(crate) fn period(self, config: &JobsConfig) -> Duration {
        let seconds = match self {
            Self::Gc => config.gc_period_seconds,
            Self::Scrub => config.scrub_period_seconds,
            Self::Retention => config.retention_period_seconds,
            Self::Purge => config.purge_period_seconds,
            Self::Fold => return super::fold::PERIOD,
            Self::Expire => config.expire_period_seconds,
            Self::Compact => config.compact_period_seconds,
        };
        Duration::from_secs(seconds)
    }
}
