//! What a scan waits for, in words.

use aegis_proto::scan::v1::Progress;

/// The last place that the server counts.
const FAR: i32 = 1_001;

/// What the scan waits for, and since when or at which place; `None` while it gets on.
pub(crate) fn waiting(progress: &Progress) -> Option<String> {
    let reason = match progress.waiting_reason.as_str() {
        "" => return None,
        reason => reason,
    };
    Some(match (&progress.waiting_since, progress.queue_place) {
        (Some(since), _) => format!("{reason} since {since}"),
        (None, FAR..) => format!("{reason}, after more than 1000 others"),
        (None, place @ 1..) => format!("{reason}, place {place}"),
        _ => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_comes_with_what_is_known_of_it() {
        let said = |reason: &str, since: Option<i64>, place: i32| {
            waiting(&Progress {
                waiting_reason: reason.to_owned(),
                waiting_since: since.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
                queue_place: place,
                ..Progress::default()
            })
        };
        assert_eq!(said("", None, 0), None);
        let queued = said("QUEUED", None, 3);
        assert_eq!(queued.as_deref(), Some("QUEUED, place 3"));
        let far = said("QUEUED", None, FAR);
        assert_eq!(far.as_deref(), Some("QUEUED, after more than 1000 others"));
        let silent = said("TARGET_NOT_ANSWERING", Some(0), 0);
        let expected = "TARGET_NOT_ANSWERING since 1970-01-01T00:00:00Z";
        assert_eq!(silent.as_deref(), Some(expected));
        let none = said("NO_MATCHING_RUNNER", None, 0);
        assert_eq!(none.as_deref(), Some("NO_MATCHING_RUNNER"));
    }
}
