//! What a call costs does not grow with what is stored.

use aegis_catalog::{
    domain::{
        artifact::ArtifactName,
        history::{ScanFilter, ScanQuery},
        task::{LeaseProof, Outcome, OutcomeKind},
        template::NewTemplate,
    },
    store::{FindingQuery, LeaseCall, ReportCall, ScanEdit, Work},
};

use crate::{
    on_both,
    world::{World, call, new_scan, outcome, probe, tally},
};

on_both!(
    lists_and_gets_take_a_fixed_number_of_statements,
    an_empty_poll_costs_the_same_whatever_waits,
    each_call_takes_its_number_of_statements,
    reads_take_as_many_statements_for_much_as_for_little,
);

async fn statements<T>(world: &World, work: impl Future<Output = T>) -> u64 {
    let before = world.store.statements();
    work.await;
    world.store.statements() - before
}

async fn lists_and_gets_take_a_fixed_number_of_statements(world: &World) {
    let list = async || {
        let query = ScanQuery::default();
        let page = world.store.list(&world.project, &query, None, 100).await;
        page.unwrap().scans.len()
    };
    let first = world.create(1).await;
    world.leased().await;
    world.create(1).await;
    let few = statements(world, list()).await;
    for _ in 0..20 {
        let id = world.create(3).await;
        if world.lease().await.is_none() {
            world.store.cancel(&world.project, id, "").await.unwrap();
        }
    }
    assert_eq!(list().await, 22);
    assert_eq!(statements(world, list()).await, few);
    assert!(few <= 8, "{few} statements for a list");
    let get = statements(world, world.get(first)).await;
    let large = world.create(300).await;
    assert!(statements(world, world.get(large)).await <= get.max(7));
}

/// Begin and commit are none of them. Whether a scan has two probes or sixty, a probe one result or
/// thirty, a page one scan or a hundred: the number does not grow.
async fn each_call_takes_its_number_of_statements(world: &World) {
    let mut counted = Vec::new();
    // The runner is known from here on: that is noted once a while.
    assert!(world.lease().await.is_none());
    for (probes, results) in [(2, 1), (60, 30)] {
        counted.push(statements_of_calls(world, probes, results).await);
        world.work_off().await;
        for _ in 0..98 {
            let id = world.create(1).await;
            world.store.cancel(&world.project, id, "").await.unwrap();
        }
    }
    let expected = [
        ("CreateScan", 13),
        // As many when its scan runs already; two more when it begins to.
        ("LeaseTask", 11),
        ("ReportTask", 6),
        ("FinishTask", 13),
        ("GetScan", 5),
        ("ListProbeResults", 2),
        ("ListScans", 3),
        ("ListScans with total_size", 4),
        ("ListScans by text", 4),
        ("UpdateScan", 9),
    ];
    assert_eq!(counted[0], counted[1]);
    assert_eq!(counted[0], expected);
}

async fn statements_of_calls(
    world: &World,
    probes: usize,
    results: usize,
) -> Vec<(&'static str, u64)> {
    let (store, project) = (&world.store, &world.project);
    let mut counted = Vec::new();
    let mut new = new_scan(probes);
    new.max_in_flight = 1_000;
    let before = store.statements();
    let id = world.create_new(&new).await;
    counted.push(("CreateScan", store.statements() - before));
    let before = store.statements();
    let granted = world.leased().await;
    counted.push(("LeaseTask", store.statements() - before));
    let report = ReportCall {
        lease: granted.lease.clone(),
        progress: None,
        waits_for: None,
        detectors_finished: vec![(1, "test.Detector".to_owned())],
        ttl_ms: 60_000,
    };
    let report = store.report(project, &report);
    let reported = statements(world, async { report.await.unwrap() }).await;
    counted.push(("ReportTask", reported));
    let mut tally = tally(probe(&granted), 3, 1);
    for n in 1..results {
        let mut row = tally.rows[0].clone();
        row.detector = format!("test.Other{n}");
        tally.rows.push(row);
    }
    let file = world
        .upload(&granted.lease, ArtifactName::Report, Some(&tally))
        .await;
    let done = Outcome {
        artifacts: vec![file.unwrap()],
        ..outcome(OutcomeKind::Done, "")
    };
    let finish = statements(world, world.finish(&granted.lease, &done)).await;
    counted.push(("FinishTask", finish));
    counted.push(("GetScan", statements(world, world.get(id)).await));
    let listed = statements(world, store.results(project, id, None, 100)).await;
    counted.push(("ListProbeResults", listed));
    let query = ScanQuery::default();
    let list = store.list(project, &query, None, 100);
    let list = statements(world, list).await;
    counted.push(("ListScans", list));
    let count = statements(world, store.count(project, &query)).await;
    counted.push(("ListScans with total_size", list + count));
    let text = ScanQuery {
        filter: ScanFilter {
            text: "a scan".to_owned(),
            ..ScanFilter::default()
        },
        ..ScanQuery::default()
    };
    let list = statements(world, store.list(project, &text, None, 100)).await;
    counted.push(("ListScans by text", list));
    let edit = ScanEdit {
        labels: Some([("team".to_owned(), "blue".to_owned())].into()),
        ..ScanEdit::default()
    };
    let update = statements(world, store.update(project, id, &edit)).await;
    counted.push(("UpdateScan", update));
    counted
}

/// Templates, reports, findings, moments, comparison; statistics and custom probes have such a case of
/// their own.
async fn reads_take_as_many_statements_for_much_as_for_little(world: &World) {
    let little = statements_of_reads(world, 1, 2).await;
    let much = statements_of_reads(world, 40, 30).await;
    assert_eq!(little, much);
    assert!(little.iter().all(|(_, count)| *count <= 8), "{little:?}");
}

/// After `scans` more scans of `probes` probes each, and as many templates.
async fn statements_of_reads(
    world: &World,
    scans: usize,
    probes: usize,
) -> Vec<(&'static str, u64)> {
    let (store, project) = (&world.store, &world.project);
    for _ in 0..scans {
        let template = NewTemplate {
            name: uuid::Uuid::new_v4().to_string(),
            display_name: String::new(),
            description: String::new(),
            spec: serde_json::json!({}),
            created_by: "local".to_owned(),
        };
        store.create_template(project, &template).await.unwrap();
        world.create(1).await;
    }
    let (first, second) = (world.create(probes).await, world.create(probes).await);
    world.work_off().await;
    let open = world.create(probes).await;
    let report = leased_report(world).await;
    let query = FindingQuery {
        target_type: "test.Repeat".to_owned(),
        target_name: "x".to_owned(),
        probe: "test.Probe0".to_owned(),
        detector: String::new(),
        after: None,
        limit: 20,
    };
    let mut counted = Vec::new();
    macro_rules! count {
        ($name:literal, $call:expr) => {
            let count = statements(world, async { $call.await.unwrap() }).await;
            counted.push(($name, count));
        };
    }
    count!("ListTemplates", store.templates(project, "", 100));
    count!("CompareScans", store.compared(project, &[first, second]));
    count!("ListReportParts", store.report_parts(project, &report));
    count!(
        "ListReportArtifacts",
        store.report_artifacts(project, first, 0)
    );
    count!(
        "LocateProbeReport",
        store.locate(project, first, "test.Probe0")
    );
    count!("LocateReports", store.locate_all(project, first));
    count!("LocateReports of parts", store.locate_all(project, open));
    count!("ListFindingReports", store.finding_reports(project, &query));
    count!("ListScanMoments", store.moments(project, first));
    world.work_off().await;
    counted
}

/// Does every probe there is, and holds the lease of the report that follows.
async fn leased_report(world: &World) -> LeaseProof {
    loop {
        let granted = world.leased().await;
        if let Work::Report { .. } = granted.work {
            return granted.lease;
        }
        world.done(&granted).await.unwrap();
    }
}

/// Read off the number of statements and the plan, not off a clock.
async fn an_empty_poll_costs_the_same_whatever_waits(world: &World) {
    for n in 0..4 {
        let mut new = new_scan(500);
        new.lane.key = format!("target-{n}");
        new.lane.max_in_flight = 16;
        world.create_new(&new).await;
    }
    while world.lease().await.is_some() {}
    let mut plan = String::new();
    // With room for one more scan, and without.
    for max_running_scans in [5, 4] {
        let poll = LeaseCall {
            max_running_scans,
            ..call()
        };
        // The repeat, a report or a probe; and a check: nothing is begun, locked or written.
        assert_eq!(statements(world, world.lease_as(&poll)).await, 2);
        let its_plan = world.store.poll_plan(&world.project, &poll).await;
        plan += &its_plan.unwrap();
    }
    for index in [
        "lanes_with_room",
        "scans_with_work",
        "scans_in_flight",
        "scans_with_report_queued",
        "tasks_queued",
        "checks_queued",
        "checks_lease_request",
    ] {
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
    }
    // Of tasks only those of a scan are looked at.
    let tasks = plan.lines().filter(|line| line.contains("tasks_queued ("));
    assert!(
        tasks.clone().all(|line| line.contains("scan_id=?")),
        "{plan}"
    );
    // Not even the paused lanes are read: they lie past the end of the index's range.
    assert!(plan.contains("paused_until"), "{plan}");
}
