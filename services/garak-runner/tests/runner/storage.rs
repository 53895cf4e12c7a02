//! What a run has is not lost while it cannot be stored, and the run says so.

use std::{collections::BTreeMap, time::Duration};

use aegis_mesh::Error;
use aegis_proto::internal::task::v1::Outcome;
use serde_json::json;

use crate::support::{Bench, eventually, probe_task};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_a_store_that_is_full_and_says_so() {
    let bench = Bench::start(|_| (), &[]).await;
    let full = Error::unavailable("STORAGE_FULL", "no room", Duration::from_millis(100));
    let refused = BTreeMap::from([("report.jsonl", full)]);
    *bench.fakes.refused_uploads.lock().unwrap() = refused;
    let spec = json!({"target": {"type": "test.Blank"}, "generations": 1});
    bench.fakes.push(probe_task(spec));
    let waits_for = async || {
        let reports = bench.fakes.reports.lock().unwrap();
        let last = reports.last()?.progress.as_ref()?;
        (!last.waits_for.is_empty()).then(|| last.waits_for.clone())
    };
    assert_eq!(eventually("it says so", waits_for).await, "STORAGE_FULL");
    bench.fakes.refused_uploads.lock().unwrap().clear();
    let finish = bench.fakes.finish(0).await;
    let outcome = finish.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    assert_eq!(finish.progress.unwrap().waits_for, "");
    bench.stop().await;
}
