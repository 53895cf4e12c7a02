//! Times without a zone, as Python's `isoformat()` leaves them.

use aegis_mesh::{Error, Result};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// The zone that local times of the old system are of.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_FIELD when there is no zone of this name here.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone> {
    let Some(name) = name else {
        return Ok(TimeZone::system());
    };
    TimeZone::get(name).map_err(|_| {
        let description = format!("{name:?} is no time zone that this machine knows");
        Error::invalid_field("--time-zone", description)
            .hint("name one of the tz database, such as UTC or Europe/Berlin")
    })
}

/// The moment that a text means: of `zone` unless it names an offset itself; `None` when it is no time.
pub(super) fn parse(text: &str, zone: &TimeZone) -> Option<prost_types::Timestamp> {
    let text = text.trim();
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let naive: DateTime = text.parse().ok()?;
            // An hour that a clock shows twice is the first of the two; one it skips, the next.
            naive.to_zoned(zone.clone()).ok()?.timestamp()
        }
    };
    Some(stamp(moment))
}

/// A file's time.
pub(super) fn of_system(time: std::time::SystemTime) -> Option<prost_types::Timestamp> {
    Timestamp::try_from(time).ok().map(stamp)
}

/// To the millisecond, as every time of Aegis.
fn stamp(moment: Timestamp) -> prost_types::Timestamp {
    let ms = moment.as_millisecond();
    prost_types::Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str, zone: &TimeZone) -> Option<i64> {
        parse(text, zone).map(|stamp| stamp.seconds)
    }

    #[test]
    fn a_naive_time_is_of_the_zone_and_an_offset_wins() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let utc = TimeZone::UTC;
        assert_eq!(
            seconds("2024-05-01T10:00:01.999999", &utc),
            Some(1_714_557_601)
        );
        // Summer and winter.
        assert_eq!(seconds("2024-05-01T10:00:01", &berlin), Some(1_714_550_401));
        assert_eq!(seconds("2024-01-01T01:00:00", &berlin), Some(1_704_067_200));
        assert_eq!(seconds("2024-05-01 10:00:01", &utc), Some(1_714_557_601));
        for text in [
            "2024-05-01T10:00:01Z",
            "2024-05-01T12:00:01+02:00",
            "2024-05-01 10:00:01+00",
        ] {
            assert_eq!(seconds(text, &berlin), Some(1_714_557_601), "{text}");
        }
        // Shown twice when summer ends, and never when it begins.
        assert_eq!(seconds("2024-10-27T02:30:00", &berlin), Some(1_729_989_000));
        assert_eq!(seconds("2024-03-31T02:30:00", &berlin), Some(1_711_848_600));
        for text in ["", "yesterday", "2024-13-01T00:00:00", "1714557601"] {
            assert_eq!(parse(text, &utc), None, "{text}");
        }
        let nanos = parse("2024-05-01T10:00:01.123456", &utc).unwrap().nanos;
        assert_eq!(nanos, 123_000_000);
    }

    #[test]
    fn a_zone_that_is_none_is_refused() {
        let error = zone(Some("Mars/Olympus")).unwrap_err();
        assert!(error.message().contains("Mars/Olympus"), "{error:?}");
        assert!(zone(Some("UTC")).is_ok() && zone(None).is_ok());
    }
}
