//! What callers are told when the rules say no.

use aegis_mesh::Error;
use aegis_proto::ids::ScanId;

use super::scan::ScanState;

/// The lease is not held (any more): stop at once.
pub fn lease_lost() -> Error {
    Error::aborted(
        "LEASE_LOST",
        "the lease is not held any more; another run of this task may be under way",
    )
}

/// No such scan in this project, or it was deleted.
pub fn scan_not_found(id: ScanId) -> Error {
    Error::not_found("scan", id.to_string())
}

/// What was asked for needs a scan that has ended.
pub fn scan_not_terminal(id: ScanId, state: ScanState) -> Error {
    Error::failed_precondition(
        "SCAN_NOT_TERMINAL",
        format!("scan {id} is {state}; it must have ended"),
    )
    .with("scan_id", id)
    .with("state", state)
    .hint("wait until the scan has ended, or cancel it first")
}

/// Everything was evaluated and the report is there.
pub fn nothing_to_retry(id: ScanId) -> Error {
    Error::failed_precondition(
        "NOTHING_TO_RETRY",
        format!("scan {id} has nothing that could be run again"),
    )
    .with("scan_id", id)
    .hint("start a new scan to run the same probes again")
}

/// Nothing of it ran here.
pub fn scan_imported(id: ScanId) -> Error {
    Error::failed_precondition(
        "SCAN_IMPORTED",
        format!("scan {id} was imported: nothing of it ran here, or can"),
    )
    .with("scan_id", id)
    .hint("start a new scan of the same target and probes")
}

/// An import's scan is there, with another report.
pub fn scan_exists(id: ScanId, imported: bool) -> Error {
    let (how, hint) = match imported {
        true => (
            "was imported before, with another report",
            "what was imported stays; delete the scan and wait for its purge to import it anew",
        ),
        false => (
            "is one of this installation, with another report or none yet",
            "import it with a scan_id of its own",
        ),
    };
    Error::new(
        aegis_mesh::Code::AlreadyExists,
        "SCAN_EXISTS",
        format!("scan {id} {how}"),
    )
    .with("scan_id", id)
    .hint(hint)
}

/// An import's scan was deleted, and is still kept.
pub fn scan_deleted(id: ScanId) -> Error {
    Error::failed_precondition(
        "SCAN_DELETED",
        format!("scan {id} is there and deleted; it is kept until its purge"),
    )
    .with("scan_id", id)
    .hint("undelete it, or import it after its purge")
}

/// An import took longer than its files' rows are kept.
pub fn import_lost(id: ScanId) -> Error {
    Error::aborted(
        "IMPORT_LOST",
        format!("the files of the import of scan {id} were collected before it was through"),
    )
    .with("scan_id", id)
    .hint("send it again from the start")
}

/// It was edited since it was read.
pub fn scan_changed(id: ScanId) -> Error {
    Error::aborted(
        "SCAN_CHANGED",
        format!("scan {id} was changed since it was read"),
    )
    .with("scan_id", id)
    .hint("read the scan again, and send the change with its new etag")
}

/// An order that deleted scans are not kept in.
pub fn order_of_deleted() -> Error {
    let problem = "must be SCAN_ORDER_CREATE_TIME for deleted scans";
    invalid_field("order_by", problem)
}

/// An order whose index is being built.
pub fn index_building(index: &str) -> Error {
    Error::unavailable(
        "INDEX_BUILDING",
        "after an upgrade the index for this order is still being built",
        std::time::Duration::from_secs(30),
    )
    .with("index", index)
    .hint("order by create time meanwhile")
}

/// One request_id, two contents.
pub fn request_id_reused(request_id: &str) -> Error {
    Error::invalid_argument(
        "REQUEST_ID_REUSED",
        format!("request_id {request_id} was used before, for a request with other content"),
    )
    .field(
        "request_id",
        "was used before, for a request with other content",
    )
    .with("request_id", request_id)
    .hint("send a new request_id with a new request")
}

/// A run names an artifact that it did not upload.
pub fn artifact_not_uploaded(what: &str) -> Error {
    Error::failed_precondition(
        "ARTIFACT_NOT_UPLOADED",
        format!("{what} was not uploaded by this run"),
    )
    .with("artifact", what)
}

/// A field that cannot be.
pub fn invalid_field(field: &str, description: impl std::fmt::Display) -> Error {
    Error::invalid_argument("INVALID_FIELD", format!("{field} {description}"))
        .field(field, description.to_string())
}

/// The probe has neither a committed part nor a place in a report.
pub fn probe_not_evaluated(probe: &str) -> Error {
    Error::new(
        aegis_mesh::Code::NotFound,
        "PROBE_NOT_EVALUATED",
        format!("probe {probe:?} has no results in this scan"),
    )
    .with("probe", probe)
}

/// No runner has published what its garak can do.
pub fn no_plugin_catalogue() -> Error {
    Error::failed_precondition(
        "NO_PLUGIN_CATALOGUE",
        "no runner has published its plugin catalogue yet",
    )
    .hint("start a runner, and give its garak some seconds to warm up")
}
