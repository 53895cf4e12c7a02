//! One completed attempt in an index.

use std::ops::Range;

use uuid::Uuid;

use super::{IndexError, ProbeEntry};
use crate::tally::DetectorTally;

/// Size of a stored record: offset u64, length u32, sequence number i32,
/// outcomes u64, the attempt's UUID; all little endian, the UUID in its own
/// byte order.
pub const RECORD_BYTES: usize = 40;

/// For so many detectors of a probe the outcomes are in the index.
pub const INDEXED_DETECTORS: usize = 31;

/// What a detector makes of an attempt, over all its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No output could be scored.
    None,
    /// Outputs were scored, all of them below the threshold.
    Pass,
    /// At least one output was scored at or above the threshold.
    Hit,
}

impl From<&DetectorTally> for Outcome {
    fn from(counts: &DetectorTally) -> Self {
        match (counts.failed, counts.passed) {
            (0, 0) => Self::None,
            (0, _) => Self::Pass,
            _ => Self::Hit,
        }
    }
}

/// The outcomes of an attempt: two bits for each of the first
/// [`INDEXED_DETECTORS`] detectors of its probe (0 not run, 1 none, 2 pass, 3
/// hit). Of further detectors bit 62 says whether any of them hit, and bit 63
/// whether there are any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Outcomes(u64);

impl Outcomes {
    const SPILLED_HIT: u64 = 1 << 62;
    const SPILLED: u64 = 1 << 63;
    /// The upper bit of each pair: pass or hit.
    const UPPER: u64 = 0x2AAA_AAAA_AAAA_AAAA;

    /// The outcome of the detector at `place` in [`ProbeEntry::detectors`];
    /// `None` if it did not run on the attempt or is beyond those indexed.
    pub fn get(self, place: usize) -> Option<Outcome> {
        if place >= INDEXED_DETECTORS {
            return None;
        }
        match (self.0 >> (2 * place)) & 3 {
            0 => None,
            1 => Some(Outcome::None),
            2 => Some(Outcome::Pass),
            _ => Some(Outcome::Hit),
        }
    }

    /// Whether any detector hit, the ones beyond those indexed included.
    pub fn any_hit(self) -> bool {
        let pairs = self.0 & !(Self::SPILLED | Self::SPILLED_HIT);
        let hits = pairs & (pairs << 1) & Self::UPPER;
        hits != 0 || self.0 & Self::SPILLED_HIT != 0
    }

    /// The outcome over all detectors: a hit if any hit, a pass if any passed
    /// and none hit. Detectors beyond those indexed count if they hit, and
    /// otherwise as passed.
    pub fn overall(self) -> Outcome {
        let pairs = self.0 & !(Self::SPILLED | Self::SPILLED_HIT);
        if self.any_hit() {
            Outcome::Hit
        } else if pairs & Self::UPPER != 0 || self.is_spilled() {
            Outcome::Pass
        } else {
            Outcome::None
        }
    }

    /// Whether detectors beyond those indexed ran on the attempt.
    pub fn is_spilled(self) -> bool {
        self.0 & Self::SPILLED != 0
    }

    pub(crate) fn set(&mut self, place: usize, outcome: Outcome) {
        if place >= INDEXED_DETECTORS {
            let hit = if outcome == Outcome::Hit {
                Self::SPILLED_HIT
            } else {
                0
            };
            self.0 |= Self::SPILLED | hit;
            return;
        }
        let bits = match outcome {
            Outcome::None => 1,
            Outcome::Pass => 2,
            Outcome::Hit => 3,
        };
        self.0 = self.0 & !(3 << (2 * place)) | bits << (2 * place);
    }
}

/// Where one completed attempt lies, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where its line starts in the report.
    pub offset: u64,
    /// The line's length with its line break.
    pub length: u32,
    /// Number of the prompt within the probe; -1 when not given.
    pub seq: i32,
    /// What the probe's detectors made of it.
    pub outcomes: Outcomes,
    /// The attempt's id as [`Record::key_of`] makes it; nil when it has none.
    pub uuid: Uuid,
}

impl Record {
    /// Where the line lies in the report, with its line break.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.length))
    }

    /// What an attempt's id is in an index: itself, as garak's ids are UUIDs; of any other text a
    /// hash (FNV-1a, 128 bits), so the attempt found must be asked for its id.
    pub fn key_of(attempt_id: &str) -> Uuid {
        const OFFSET: u128 = 0x6c62272e07bb014262b821756295c58d;
        const PRIME: u128 = 0x0000000001000000000000000000013b;
        if attempt_id.is_empty() {
            return Uuid::nil();
        }
        Uuid::try_parse(attempt_id).unwrap_or_else(|_| {
            let mix = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(PRIME);
            Uuid::from_u128(attempt_id.bytes().fold(OFFSET, mix))
        })
    }

    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.outcomes.0.to_le_bytes());
        bytes[24..].copy_from_slice(self.uuid.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Self {
        let mut numbers = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word));
        let mut word = || numbers.next().unwrap_or_default(); // there are ten words
        let mut long = || u64::from(word()) | u64::from(word()) << 32;
        let offset = long();
        let length_and_seq = long();
        let outcomes = Outcomes(long());
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[24..]);
        Self {
            offset,
            length: length_and_seq as u32,
            seq: (length_and_seq >> 32) as u32 as i32,
            outcomes,
            uuid: Uuid::from_bytes(uuid),
        }
    }
}

/// Parses the bytes of some records, as [`super::IndexHeader::record_range`]
/// gives them.
///
/// # Errors
/// [`IndexError::Malformed`] if it is not a whole number of records.
pub fn parse_records(bytes: &[u8]) -> Result<Vec<Record>, IndexError> {
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    if !rest.is_empty() {
        return Err(IndexError::Malformed("a record is torn"));
    }
    Ok(records.iter().map(Record::decode).collect())
}

/// Which attempts of a probe are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter(Wanted);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Any(Outcome),
    Of { place: usize, outcome: Outcome },
}

impl Filter {
    /// All attempts.
    pub fn all() -> Self {
        Self(Wanted::All)
    }

    /// Attempts that any detector hit.
    pub fn any_hit() -> Self {
        Self(Wanted::Any(Outcome::Hit))
    }

    /// Attempts with this outcome over all detectors: `Hit` if any detector
    /// hit, `Pass` if none hit and at least one passed, `None` if nothing was
    /// scored.
    pub fn overall(outcome: Outcome) -> Self {
        Self(Wanted::Any(outcome))
    }

    /// Attempts of which `detector` made `outcome`.
    ///
    /// # Errors
    /// [`IndexError::UnknownDetector`], [`IndexError::NotIndexed`].
    pub fn of(probe: &ProbeEntry, detector: &str, outcome: Outcome) -> Result<Self, IndexError> {
        let place = probe.detectors.iter().position(|name| name == detector);
        let place = place.ok_or(IndexError::UnknownDetector)?;
        if place >= INDEXED_DETECTORS {
            return Err(IndexError::NotIndexed);
        }
        Ok(Self(Wanted::Of { place, outcome }))
    }

    /// Whether the attempt is wanted.
    pub fn matches(&self, record: &Record) -> bool {
        match self.0 {
            Wanted::All => true,
            Wanted::Any(outcome) => record.outcomes.overall() == outcome,
            Wanted::Of { place, outcome } => record.outcomes.get(place) == Some(outcome),
        }
    }
}
