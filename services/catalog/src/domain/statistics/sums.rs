//! What is counted.

use serde::{Deserialize, Serialize};

/// The numbers of one line of statistics, or of one change to it: then they may be negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Scans that ended as completed.
    pub scans_completed: i64,
    /// Scans that ended as failed.
    pub scans_failed: i64,
    /// Scans that ended as cancelled.
    pub scans_cancelled: i64,
    /// Probe x detector evaluations.
    pub evaluations: i64,
    /// Outputs below the threshold.
    pub passed: i64,
    /// Outputs at or above it.
    pub failed: i64,
    /// Outputs that could not be scored.
    pub nones: i64,
    /// Evaluations by garak's grade, from 1 to 5.
    pub defcon: [i64; 5],
}

impl Sums {
    /// How many numbers they are.
    pub const LEN: usize = 12;

    /// All numbers, in the order in which they are stored.
    pub fn to_array(self) -> [i64; Self::LEN] {
        let [one, two, three, four, five] = self.defcon;
        [
            self.scans_completed,
            self.scans_failed,
            self.scans_cancelled,
            self.evaluations,
            self.passed,
            self.failed,
            self.nones,
            one,
            two,
            three,
            four,
            five,
        ]
    }

    /// The sums of these numbers.
    pub fn from_array(numbers: [i64; Self::LEN]) -> Self {
        let [
            scans_completed,
            scans_failed,
            scans_cancelled,
            evaluations,
            passed,
            failed,
            nones,
            defcon @ ..,
        ] = numbers;
        Self {
            scans_completed,
            scans_failed,
            scans_cancelled,
            evaluations,
            passed,
            failed,
            nones,
            defcon,
        }
    }

    /// Adds `count` evaluations of a grade; a grade that garak does not have counts nowhere.
    pub fn grade(&mut self, grade: Option<i32>, count: i64) {
        let index = grade.and_then(|grade| usize::try_from(grade - 1).ok());
        if let Some(sum) = index.and_then(|index| self.defcon.get_mut(index)) {
            *sum += count;
        }
    }

    /// Whether nothing is counted.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Outputs that were scored.
    pub fn evaluated(&self) -> i64 {
        self.passed + self.failed
    }

    /// passed / (passed + failed), 0 to 1; `None` while nothing was evaluated.
    pub fn pass_rate(&self) -> Option<f64> {
        let evaluated = self.evaluated();
        (evaluated > 0).then(|| self.passed as f64 / evaluated as f64)
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        let mut numbers = self.to_array();
        for (number, more) in numbers.iter_mut().zip(other.to_array()) {
            *number += more;
        }
        *self = Self::from_array(numbers);
    }
}

impl std::ops::Neg for Sums {
    type Output = Self;

    fn neg(self) -> Self {
        Self::from_array(self.to_array().map(|number| -number))
    }
}

/// As a list of numbers; zeros at its end are left out.
impl Serialize for Sums {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers = self.to_array();
        let used = numbers.iter().rposition(|number| *number != 0);
        numbers[..used.map_or(0, |last| last + 1)].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<i64>::deserialize(deserializer)?;
        if list.len() > Self::LEN {
            return Err(serde::de::Error::invalid_length(list.len(), &"12 numbers"));
        }
        let mut numbers = [0; Self::LEN];
        numbers[..list.len()].copy_from_slice(&list);
        Ok(Self::from_array(numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_stored_without_trailing_zeros() {
        let sums = Sums {
            evaluations: 2,
            passed: -3,
            ..Sums::default()
        };
        let json = serde_json::to_string(&sums).unwrap();
        assert_eq!(json, "[0,0,0,2,-3]");
        assert_eq!(serde_json::from_str::<Sums>(&json).unwrap(), sums);
        assert!(serde_json::from_str::<Sums>(&format!("{:?}", [1; 13])).is_err());
    }

    #[test]
    fn only_garaks_grades_are_counted() {
        let mut sums = Sums::default();
        for grade in [Some(1), Some(5), Some(0), Some(6), Some(i32::MIN + 1), None] {
            sums.grade(grade, 1);
        }
        assert_eq!(sums.defcon, [1, 0, 0, 0, 1]);
    }

    #[test]
    fn what_is_taken_back_is_as_if_it_never_was() {
        let numbers = std::array::from_fn(|n| n as i64 * 7 - 3);
        let mut sums = Sums::from_array(numbers);
        assert_eq!(sums.to_array(), numbers);
        sums += -sums;
        assert!(sums.is_zero());
    }
}
