//! What a task may use, and what it means that it used more.

use std::{fmt, time::Duration};

use super::ending::Ending;

/// What the runner watches of a task's processes and files, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory.
    pub memory: u64,
    /// Processor time.
    pub cpu: Option<Duration>,
    /// Bytes in the scratch directory.
    pub scratch_bytes: u64,
    /// Files and directories in it.
    pub scratch_files: u64,
    /// Processes at once.
    pub processes: u64,
}

/// What a task's processes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of memory, resident and swapped.
    pub memory: u64,
    /// Processor time so far.
    pub cpu: Duration,
    /// How many there are.
    pub processes: u64,
}

/// What a scratch directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// A bound that was passed, with what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Bytes of memory.
    Memory {
        /// Used.
        used: u64,
        /// Allowed.
        limit: u64,
    },
    /// Processor time.
    Cpu {
        /// Allowed.
        limit: Duration,
    },
    /// Bytes in the scratch directory.
    ScratchBytes {
        /// Used.
        used: u64,
        /// Allowed.
        limit: u64,
    },
    /// Files in the scratch directory.
    ScratchFiles {
        /// Allowed.
        limit: u64,
    },
    /// Processes.
    Processes {
        /// Allowed.
        limit: u64,
    },
}

impl Bounds {
    /// The bound that the processes passed, if they did.
    pub fn passed_by(&self, usage: &Usage) -> Option<Excess> {
        if usage.memory > self.memory {
            return Some(Excess::Memory {
                used: usage.memory,
                limit: self.memory,
            });
        }
        if usage.processes > self.processes {
            return Some(Excess::Processes {
                limit: self.processes,
            });
        }
        self.cpu
            .filter(|limit| usage.cpu > *limit)
            .map(|limit| Excess::Cpu { limit })
    }

    /// The bound that the scratch directory passed, if it did.
    pub fn passed_by_files(&self, held: &Held) -> Option<Excess> {
        if held.bytes > self.scratch_bytes {
            return Some(Excess::ScratchBytes {
                used: held.bytes,
                limit: self.scratch_bytes,
            });
        }
        (held.files > self.scratch_files).then_some(Excess::ScratchFiles {
            limit: self.scratch_files,
        })
    }
}

impl Excess {
    /// UPPER_SNAKE.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "OUT_OF_MEMORY",
            Self::Cpu { .. } => "CPU_TIME_EXCEEDED",
            Self::ScratchBytes { .. } | Self::ScratchFiles { .. } => "OUTPUT_TOO_LARGE",
            Self::Processes { .. } => "TOO_MANY_PROCESSES",
        }
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { used, limit } => write!(
                f,
                "it took {} of memory; the runner's limits.memory_bytes allows {}",
                Mebibytes(*used),
                Mebibytes(*limit)
            ),
            Self::Cpu { limit } => write!(
                f,
                "it took more processor time than the {} s of the runner's limits.cpu_seconds",
                limit.as_secs()
            ),
            Self::ScratchBytes { used, limit } => write!(
                f,
                "it wrote {}; the runner's limits.scratch_bytes allows {}",
                Mebibytes(*used),
                Mebibytes(*limit)
            ),
            Self::ScratchFiles { limit } => write!(
                f,
                "it wrote more files than the {limit} of the runner's limits.scratch_files"
            ),
            Self::Processes { limit } => write!(
                f,
                "it started more processes than the {limit} of the runner's limits.processes"
            ),
        }
    }
}

/// The same work would come to the same end: it is not tried again by itself.
impl From<Excess> for Ending {
    fn from(excess: Excess) -> Self {
        Self::permanent(excess.reason(), &excess.to_string())
    }
}

/// A number of bytes for people: down to the mebibyte.
struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ending::Outcome;

    const BOUNDS: Bounds = Bounds {
        memory: 300 << 20,
        cpu: Some(Duration::from_secs(5)),
        scratch_bytes: 10 << 20,
        scratch_files: 100,
        processes: 4,
    };

    fn usage(memory: u64, cpu: u64, processes: u64) -> Usage {
        Usage {
            memory,
            cpu: Duration::from_secs(cpu),
            processes,
        }
    }

    #[test]
    fn what_is_at_its_bound_goes_on() {
        assert_eq!(BOUNDS.passed_by(&usage(300 << 20, 5, 4)), None);
        let unbounded = Bounds {
            cpu: None,
            ..BOUNDS
        };
        assert_eq!(unbounded.passed_by(&usage(0, 1_000_000, 1)), None);
        let held = |bytes, files| BOUNDS.passed_by_files(&Held { bytes, files });
        assert_eq!(held(10 << 20, 100), None);
        assert_eq!(held(10 << 20, 101).unwrap().reason(), "OUTPUT_TOO_LARGE");
        assert_eq!(
            held((10 << 20) + 1, 1).unwrap().reason(),
            "OUTPUT_TOO_LARGE"
        );
    }

    #[test]
    fn what_passes_a_bound_is_not_tried_again_and_says_which() {
        for (usage, reason, words) in [
            (usage(512 << 20, 0, 1), "OUT_OF_MEMORY", "512 MiB of memory"),
            (usage(0, 6, 1), "CPU_TIME_EXCEEDED", "5 s"),
            (usage(0, 0, 5), "TOO_MANY_PROCESSES", "limits.processes"),
        ] {
            let ending = Ending::from(BOUNDS.passed_by(&usage).unwrap());
            assert_eq!(
                (ending.outcome, ending.reason.as_str()),
                (Outcome::FailedPermanent, reason)
            );
            assert!(ending.message.contains(words), "{}", ending.message);
        }
    }
}
