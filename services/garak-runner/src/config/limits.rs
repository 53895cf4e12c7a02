//! What one task may use.

use std::{ops::RangeInclusive, time::Duration};

use aegis_mesh::ConfigError;
use serde::{Deserialize, Serialize};

use super::machine;
use crate::domain::bounds::Bounds;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// A task has at least so much, however many slots share the machine: garak itself takes a fifth.
const LEAST_MEMORY: u64 = 512 * MIB;

/// Limits of one task: of its garak child and all processes that this starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of all its processes together in bytes, resident and swapped, 128 MiB to 16 TiB.
    /// Unset: three quarters of what the machine, or the container, has, divided by the slots; at
    /// least 512 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time of all its processes together in seconds, 1 to 31 days. Unset: the scan's
    /// `probe_timeout` is the only bound on time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<u64>,
    /// Largest file in bytes, 1 MiB to 16 TiB.
    pub file_bytes: u64,
    /// All that its scratch directory holds in bytes, 1 MiB to 16 TiB.
    pub scratch_bytes: u64,
    /// Files and directories in its scratch directory, 100 to 10 million.
    pub scratch_files: u64,
    /// Open files of each process, 64 to 1048576; never more than the runner itself may open.
    pub open_files: u64,
    /// Its processes at once, 1 to 100000.
    pub processes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            cpu_seconds: None,
            file_bytes: 4 * GIB,
            scratch_bytes: 8 * GIB,
            scratch_files: 100_000,
            open_files: 4096,
            processes: 1024,
        }
    }
}

impl Limits {
    /// # Errors
    /// Naming the first field that is out of range.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let unset = LEAST_MEMORY;
        let bounds: [(&str, u64, RangeInclusive<u64>); 7] = [
            (
                "memory_bytes",
                self.memory_bytes.unwrap_or(unset),
                128 * MIB..=16 * TIB,
            ),
            (
                "cpu_seconds",
                self.cpu_seconds.unwrap_or(1),
                1..=31 * 24 * 3600,
            ),
            ("file_bytes", self.file_bytes, MIB..=16 * TIB),
            ("scratch_bytes", self.scratch_bytes, MIB..=16 * TIB),
            ("scratch_files", self.scratch_files, 100..=10_000_000),
            ("open_files", self.open_files, 64..=1 << 20),
            ("processes", self.processes, 1..=100_000),
        ];
        for (field, value, range) in bounds {
            if !range.contains(&value) {
                return Err(ConfigError::invalid(format!(
                    "limits.{field} is {value}; it must be {} to {}",
                    range.start(),
                    range.end()
                )));
            }
        }
        Ok(())
    }

    /// What the runner watches, on a runner of so many slots.
    pub(crate) fn bounds(&self, slots: u32) -> Bounds {
        Bounds {
            memory: self.memory_bytes.unwrap_or_else(|| share(slots)),
            cpu: self.cpu_seconds.map(Duration::from_secs),
            scratch_bytes: self.scratch_bytes,
            scratch_files: self.scratch_files,
            processes: self.processes,
        }
    }

    /// What the kernel watches: the child sets it for itself, and its processes inherit it.
    pub(crate) fn of_the_kernel(&self) -> serde_json::Value {
        serde_json::json!({
            "file_bytes": self.file_bytes,
            "cpu_seconds": self.cpu_seconds,
            "open_files": self.open_files,
        })
    }
}

/// A slot's share of the memory that there is.
fn share(slots: u32) -> u64 {
    let usable = machine::memory().map_or(0, |bytes| bytes / 4 * 3);
    (usable / u64::from(slots.max(1))).max(LEAST_MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        for (field, limits) in [
            (
                "limits.memory_bytes",
                Limits {
                    memory_bytes: Some(127 * MIB),
                    ..Limits::default()
                },
            ),
            (
                "limits.cpu_seconds",
                Limits {
                    cpu_seconds: Some(0),
                    ..Limits::default()
                },
            ),
            (
                "limits.scratch_bytes",
                Limits {
                    scratch_bytes: 0,
                    ..Limits::default()
                },
            ),
            (
                "limits.open_files",
                Limits {
                    open_files: 63,
                    ..Limits::default()
                },
            ),
        ] {
            let error = limits.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        assert!(Limits::default().validate().is_ok());
    }

    #[test]
    fn slots_share_the_memory_that_there_is() {
        let limits = Limits::default();
        let (alone, crowded) = (limits.bounds(1).memory, limits.bounds(64).memory);
        let there_is = machine::memory().unwrap();
        assert!(alone >= LEAST_MEMORY && alone <= there_is.max(LEAST_MEMORY));
        assert!((LEAST_MEMORY..=alone).contains(&crowded));
        let set = Limits {
            memory_bytes: Some(GIB),
            ..limits
        };
        assert_eq!(set.bounds(64).memory, GIB);
    }
}
