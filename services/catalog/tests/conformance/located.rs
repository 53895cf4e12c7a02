//! Where attempts lie, findings of a target, and moments of a scan.

use aegis_catalog::{
    domain::task::OutcomeKind,
    store::{FindingQuery, ScanPosition, WALKED_SCANS},
};
use aegis_proto::ids::ScanId;

use crate::{
    on_both,
    world::{World, new_scan, probe, refused},
};

on_both!(
    parts_are_located_until_they_are_composed,
    findings_are_of_the_target_and_newest_first,
    a_walk_without_findings_goes_on,
    moments_are_those_that_matter,
    a_deleted_scan_is_found_by_nobody,
);

fn query(probe: &str) -> FindingQuery {
    FindingQuery {
        target_type: "test.Repeat".to_owned(),
        target_name: "x".to_owned(),
        probe: probe.to_owned(),
        detector: String::new(),
        after: None,
        limit: 10,
    }
}

async fn found(world: &World, query: &FindingQuery) -> (Vec<ScanId>, Option<ScanPosition>) {
    let found = world.store.finding_reports(&world.project, query).await;
    let (reports, next) = found.unwrap();
    (
        reports.iter().map(|report| report.position.id).collect(),
        next,
    )
}

async fn parts_are_located_until_they_are_composed(world: &World) {
    let id = world.create(3).await;
    let located = async || world.store.locate_all(&world.project, id).await.unwrap();
    assert_eq!(located().await, (vec![], 0.5));
    let (first, second) = (world.leased().await, world.leased().await);
    world
        .fail(&first, OutcomeKind::Permanent, "PROBE_CRASHED")
        .await;
    let third = world.leased().await;
    for lease in [&third, &second] {
        world.done(lease).await.unwrap();
    }
    let (reports, _) = located().await;
    let probes: Vec<&str> = reports.iter().map(|report| report.probe.as_str()).collect();
    assert_eq!(
        probes,
        ["test.Probe1", "test.Probe2"],
        "in the scan's order, not in time's"
    );
    let part = &reports[0].artifact;
    let one = world
        .store
        .locate(&world.project, id, "test.Probe1")
        .await
        .unwrap();
    assert_eq!(one.artifact, *part);
    let (hits, _) = found(world, &query("test.Probe1")).await;
    assert_eq!(hits, [id]);

    world.work_off().await;
    let (reports, _) = located().await;
    assert_eq!((reports.len(), reports[0].probe.as_str()), (1, ""));
    assert_eq!(reports[0].artifact.revision, 1);
    let finding = world
        .store
        .finding_reports(&world.project, &query("test.Probe1"))
        .await;
    let (finding, _) = finding.unwrap();
    assert_eq!(finding[0].artifact, reports[0].artifact);
    assert!(finding[0].ended_at.is_some());
    let missing = world.store.locate(&world.project, id, "test.Probe0").await;
    assert_eq!(refused(missing), "NOT_FOUND/PROBE_NOT_EVALUATED");
}

async fn findings_are_of_the_target_and_newest_first(world: &World) {
    let mut scans = Vec::new();
    for _ in 0..5 {
        scans.push(world.create(1).await);
        world.work_off().await;
    }
    let other = aegis_catalog::domain::scan::NewScan {
        target_name: "y".to_owned(),
        ..new_scan(1)
    };
    world.create_new(&other).await;
    world.work_off().await;
    scans.reverse();
    let (all, next) = found(world, &query("test.Probe0")).await;
    assert_eq!((all, next), (scans.clone(), None));
    let mut paged = Vec::new();
    let mut page = FindingQuery {
        limit: 2,
        ..query("test.Probe0")
    };
    loop {
        let (scans, next) = found(world, &page).await;
        assert!(scans.len() <= 2);
        paged.extend(scans);
        let Some(next) = next else { break };
        page.after = Some(next);
    }
    assert_eq!(paged, scans);
    // A detector of that name, and one that there is not.
    for (detector, count) in [("test.Detector", 5), ("test.Other", 0)] {
        let query = FindingQuery {
            detector: detector.to_owned(),
            ..query("test.Probe0")
        };
        assert_eq!(found(world, &query).await.0.len(), count, "{detector}");
    }
    world
        .sql(
            "UPDATE probe_results SET failed = 0, passed = 4 WHERE scan_id = $1",
            vec![scans[1].0.into()],
        )
        .await;
    let (fewer, _) = found(world, &query("test.Probe0")).await;
    assert_eq!(fewer, [scans[0], scans[2], scans[3], scans[4]]);
    world
        .sql(
            "UPDATE probe_results SET failed = 1, passed = 3 WHERE scan_id = $1",
            vec![scans[1].0.into()],
        )
        .await;
}

/// More scans than one call looks at, of which the oldest alone has a finding.
async fn a_walk_without_findings_goes_on(world: &World) {
    let first = world.create(1).await;
    world.work_off().await;
    world
        .sql(
            "UPDATE scans SET created_at = 1000 WHERE id = $1",
            vec![first.0.into()],
        )
        .await;
    let rows = world
        .sql("SELECT * FROM scans WHERE id = $1", vec![first.0.into()])
        .await;
    // The database computes these itself.
    const COMPUTED: [&str; 4] = ["state_rank", "duration_ms", "pass_rate", "coverage"];
    let mut columns: Vec<String> = rows[0].column_names();
    columns.retain(|name| !COMPUTED.contains(&name.as_str()));
    let changed = columns.iter().map(|name| match name.as_str() {
        "id" => "$1".to_owned(),
        "created_at" => "2000".to_owned(),
        name => name.to_owned(),
    });
    let insert = format!(
        "INSERT INTO scans ({}) SELECT {} FROM scans WHERE id = $2",
        columns.join(", "),
        changed.collect::<Vec<_>>().join(", ")
    );
    let mut copies = Vec::new();
    for _ in 0..WALKED_SCANS + 3 {
        let copy = ScanId::generate();
        world
            .sql(&insert, vec![copy.0.into(), first.0.into()])
            .await;
        copies.push(copy);
    }
    let (none, next) = found(world, &query("test.Probe0")).await;
    assert_eq!(none, []);
    assert!(next.is_some(), "there are older scans");
    let (scans, next) = found(
        world,
        &FindingQuery {
            after: next,
            ..query("test.Probe0")
        },
    )
    .await;
    assert_eq!((scans, next), (vec![first], None));
    for copy in copies {
        world
            .sql("DELETE FROM scans WHERE id = $1", vec![copy.0.into()])
            .await;
    }
}

async fn moments_are_those_that_matter(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    assert_eq!(probe(&granted), "test.Probe0");
    world.done(&granted).await.unwrap();
    world.work_off().await;
    let moments = world.store.moments(&world.project, id).await.unwrap();
    let log = world.log(id).await;
    let matter = |kind: &str| !matches!(kind, "DETECTOR_FINISHED" | "WAITING");
    let expected = log.into_iter().filter(|logged| matter(logged.event.kind()));
    assert_eq!(moments, expected.collect::<Vec<_>>());
    let kinds: Vec<&str> = moments.iter().map(|logged| logged.event.kind()).collect();
    assert!(
        kinds.contains(&"PROBE_EVALUATED") && kinds.contains(&"REPORT_READY"),
        "{kinds:?}"
    );
}

async fn a_deleted_scan_is_found_by_nobody(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    world.store.delete(&world.project, id).await.unwrap();
    let gone = "NOT_FOUND/SCAN_NOT_FOUND";
    assert_eq!(
        refused(world.store.locate_all(&world.project, id).await),
        gone
    );
    assert_eq!(refused(world.store.moments(&world.project, id).await), gone);
    assert_eq!(found(world, &query("test.Probe0")).await.0, []);
}
