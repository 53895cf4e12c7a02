//! What to do next, for reasons that a whole scan can fail with.

/// A sentence for whoever reads the failure.
pub fn for_reason(reason: &str) -> &'static str {
    match reason {
        "TARGET_UNREACHABLE" => {
            "check that the target's address is right and can be reached from the runner, then retry the scan"
        }
        "TARGET_UNAUTHORIZED" | "MISSING_CREDENTIAL" => {
            "check the key that `target.secret` names in the runner's environment, then retry the scan"
        }
        "TARGET_NOT_FOUND" => {
            "check the target's name and address: it answered that there is no such model, then start a new scan"
        }
        "TARGET_BUSY" | "TARGET_ERROR" => {
            "the target kept refusing or failing; lower `max_in_flight` or wait until it is well, then retry the scan"
        }
        "DETECTOR_UNAVAILABLE" => {
            "choose probes whose detectors can be loaded here; `aegis scan plan` shows which"
        }
        "RUNNER_LOST" => {
            "runners were lost while they ran; look at their logs, then retry the scan"
        }
        "PROBE_TIMED_OUT" => {
            "raise `probe_timeout` or choose smaller probes, then start a new scan"
        }
        "OUT_OF_MEMORY"
        | "CPU_TIME_EXCEEDED"
        | "OUTPUT_TOO_LARGE"
        | "TOO_MANY_OPEN_FILES"
        | "TOO_MANY_PROCESSES" => {
            "the probe used more than a runner gives a task; if it needs that much, raise the runner's `limits`, then retry the scan"
        }
        "OUT_OF_SPACE" => "free space where the runner's data directory lies, then retry the scan",
        "FAILED_BEFORE_IMPORT" | "REPORT_LOST" => {
            "nothing of it ran here; start a new scan of the same target and probes"
        }
        _ => {
            "look at why each probe was not evaluated (`coverage.not_evaluated`), then retry the scan"
        }
    }
}
