//! Days and months in UTC, as numbers.

use time::Date;

/// 1970-01-01 as a Julian day.
const EPOCH: i32 = 2_440_588;
const DAY_MS: i64 = 86_400_000;
/// "2026-11-24".
const ISO: &[time::format_description::BorrowedFormatItem<'static>] =
    time::macros::format_description!("[year]-[month]-[day]");

/// A day in UTC, as days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

/// A month, as months since the year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(pub i32);

impl Day {
    /// 0001-01-01: before anything that is counted.
    pub const FIRST: Self = Self(-719_162);
    /// 9999-12-31: after anything that is counted.
    pub const LAST: Self = Self(2_932_896);

    /// The day of a time in unix milliseconds; outside the years 1 to 9999 the nearest in them.
    pub fn of_time(unix_ms: i64) -> Self {
        let day = i32::try_from(unix_ms.div_euclid(DAY_MS)).unwrap_or(if unix_ms < 0 {
            i32::MIN
        } else {
            i32::MAX
        });
        Self(day.clamp(Self::FIRST.0, Self::LAST.0))
    }

    /// Reads "2026-11-24".
    pub fn parse(text: &str) -> Option<Self> {
        let date = Date::parse(text, ISO).ok()?;
        let day = Self(date.to_julian_day() - EPOCH);
        (day >= Self::FIRST).then_some(day)
    }

    fn date(self) -> Date {
        let day = self.0.clamp(Self::FIRST.0, Self::LAST.0);
        // Cannot fail: the days are within the years that `time` knows.
        Date::from_julian_day(day + EPOCH).unwrap_or(Date::MIN)
    }

    /// Its month.
    pub fn month(self) -> Month {
        let date = self.date();
        Month(date.year() * 12 + i32::from(u8::from(date.month())) - 1)
    }

    /// 1 to 31.
    pub fn of_month(self) -> u8 {
        self.date().day()
    }

    /// The Monday of its ISO week.
    pub fn monday(self) -> Self {
        Self(self.0 - i32::from(self.date().weekday().number_days_from_monday()))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let date = self.date();
        let month = u8::from(date.month());
        write!(f, "{:04}-{month:02}-{:02}", date.year(), date.day())
    }
}

impl Month {
    /// Its year.
    pub fn year(self) -> i32 {
        self.0.div_euclid(12)
    }

    /// Its first day.
    pub fn first(self) -> Day {
        let month = u8::try_from(self.0.rem_euclid(12) + 1).unwrap_or(1);
        let month = time::Month::try_from(month).unwrap_or(time::Month::January);
        let date = Date::from_calendar_date(self.year(), month, 1).unwrap_or(Date::MIN);
        Day(date.to_julian_day() - EPOCH)
    }

    /// Its last day.
    pub fn last(self) -> Day {
        if self == Day::LAST.month() {
            return Day::LAST;
        }
        Day(Self(self.0 + 1).first().0 - 1)
    }

    /// A day of it, by its number from 1.
    pub fn day(self, of_month: u8) -> Day {
        Day(self.first().0 + i32::from(of_month) - 1)
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year(), self.0.rem_euclid(12) + 1)
    }
}
