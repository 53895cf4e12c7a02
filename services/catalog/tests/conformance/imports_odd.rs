//! Imports of what is not whole, and what comes of imported scans.

use aegis_catalog::domain::{
    import::{Header, Import, UNKNOWN},
    scan::{ReportState, ScanState},
    tally::Tally,
};
use aegis_proto::ids::ScanId;

use crate::{
    imports::{MAY, commit, findings, import, stage, take_in},
    on_both,
    world::{World, checksum, refused},
};

on_both!(
    a_scan_may_have_lost_its_report,
    a_report_may_have_ended_before_its_first_probe,
    nothing_of_an_import_runs_here,
    a_deleted_scan_is_in_the_way_and_says_so,
    a_purged_import_may_come_again,
    collected_rows_end_an_import,
    an_import_takes_its_number_of_statements,
);

async fn a_scan_may_have_lost_its_report(world: &World) {
    let lost = Import {
        report: None,
        ..import(1)
    };
    let counted = Import {
        header: Header {
            counts: [("dan".to_owned(), (7, 3)), ("encoding".to_owned(), (0, 0))].into(),
            state: Some(ScanState::Completed),
            ended_at: Some(MAY),
            ..Header::default()
        },
        ..lost.clone()
    };
    let imported = commit(world, &counted).await.unwrap();
    let scan = &imported.view.scan;
    assert_eq!(scan.state, ScanState::Completed);
    assert_eq!((scan.planned, scan.evaluated), (2, 1));
    assert_eq!((scan.totals.passed, scan.totals.failed), (7, 3));
    assert_eq!(scan.report.state, ReportState::None);
    assert!(commit(world, &counted).await.unwrap().unchanged);
    let results = world
        .store
        .results(&world.project, counted.id, None, 10)
        .await;
    let results = results.unwrap().results;
    assert_eq!(
        (
            results[0].row.probe.as_str(),
            results[0].row.detector.as_str()
        ),
        ("dan", UNKNOWN)
    );
    // There is nothing to read, and that is said.
    let located = world.store.locate(&world.project, counted.id, "dan").await;
    assert_eq!(refused(located), "NOT_FOUND/REPORT_NOT_FOUND");
    let (all, _) = world
        .store
        .locate_all(&world.project, counted.id)
        .await
        .unwrap();
    assert_eq!(all, []);
    let found = world
        .store
        .finding_reports(&world.project, &findings("dan"))
        .await;
    assert_eq!(found.unwrap().0, []);

    let failed = Import {
        id: ScanId(uuid::Uuid::new_v4()),
        header: Header {
            state: Some(ScanState::Failed),
            failure_message: "the server was restarted".to_owned(),
            started_at: Some(MAY),
            ..Header::default()
        },
        ..lost.clone()
    };
    let scan = commit(world, &failed).await.unwrap().view.scan;
    let failure = scan.failure.unwrap();
    assert_eq!(failure.reason, "FAILED_BEFORE_IMPORT");
    assert_eq!(failure.message, "the server was restarted");
    assert_eq!((scan.planned, scan.not_evaluated), (1, 1));

    // Called complete, but nothing is left of it.
    let claimed = Import {
        id: ScanId(uuid::Uuid::new_v4()),
        header: Header {
            state: Some(ScanState::Completed),
            ..Header::default()
        },
        ..lost
    };
    let imported = commit(world, &claimed).await.unwrap();
    assert_eq!(imported.view.scan.state, ScanState::Failed);
    assert_eq!(imported.warnings.len(), 1);
}

/// garak died as it started.
async fn a_report_may_have_ended_before_its_first_probe(world: &World) {
    let mut import = import(1);
    let report = import.report.as_mut().unwrap();
    report.probes.clear();
    report.tally = Tally::default();
    let imported = take_in(world, &mut import).await;
    let scan = &imported.view.scan;
    assert_eq!(scan.state, ScanState::Failed);
    assert_eq!(
        (scan.planned, scan.evaluated, scan.not_evaluated),
        (1, 0, 1)
    );
}

async fn nothing_of_an_import_runs_here(world: &World) {
    let mut import = import(2);
    take_in(world, &mut import).await;
    assert!(world.lease().await.is_none());
    let (store, project, id) = (&world.store, &world.project, import.id);
    assert_eq!(
        refused(store.retry(project, id).await),
        "FAILED_PRECONDITION/SCAN_IMPORTED"
    );
    let cancelled = store.cancel(project, id, "").await;
    assert_eq!(refused(cancelled), "FAILED_PRECONDITION/SCAN_IMPORTED");
    // What is a user's own is done as ever.
    let edit = aegis_catalog::store::ScanEdit {
        labels: Some([("team".to_owned(), "blue".to_owned())].into()),
        ..Default::default()
    };
    let edited = store.update(project, id, &edit).await.unwrap();
    assert_eq!(edited.scan.labels.len(), 1);
    assert_eq!(edited.scan.original, Some(import.header.original));
    store.delete(project, id).await.unwrap();
    store.undelete(project, id).await.unwrap();
    assert_eq!(world.get(id).await.scan.state, ScanState::Completed);
}

async fn a_deleted_scan_is_in_the_way_and_says_so(world: &World) {
    let mut import = import(1);
    take_in(world, &mut import).await;
    world.store.delete(&world.project, import.id).await.unwrap();
    let checked = world.store.check_import(&world.project, import.id).await;
    assert_eq!(refused(checked), "FAILED_PRECONDITION/SCAN_DELETED");
    let staged = stage(&world.store, world, &mut import, checksum()).await;
    assert_eq!(refused(staged), "FAILED_PRECONDITION/SCAN_DELETED");
    assert_eq!(
        refused(commit(world, &import).await),
        "FAILED_PRECONDITION/SCAN_DELETED"
    );
}

async fn a_purged_import_may_come_again(world: &World) {
    let mut import = import(2);
    take_in(world, &mut import).await;
    let deleted = world.store.delete(&world.project, import.id).await;
    assert!(deleted.unwrap().scan.purge_at.is_some());
    crate::keeping::purge(world, import.id).await;
    for table in [
        "scans",
        "tasks",
        "artifacts",
        "probe_results",
        "scan_labels",
        "scan_probes",
    ] {
        let rows = world.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
    take_in(world, &mut import).await;
}

async fn collected_rows_end_an_import(world: &World) {
    let mut import = import(1);
    assert!(
        stage(&world.store, world, &mut import, checksum())
            .await
            .unwrap()
    );
    world.sql("DELETE FROM artifacts", vec![]).await;
    assert_eq!(refused(commit(world, &import).await), "ABORTED/IMPORT_LOST");
    assert_eq!(world.number("SELECT COUNT(*) FROM scans").await, 0);
    // The same import again is whole.
    take_in(world, &mut import).await;
}

/// Whether a report has two probes or three hundred.
async fn an_import_takes_its_number_of_statements(world: &World) {
    // The lane is made by the first.
    take_in(world, &mut import(1)).await;
    let mut counted = Vec::new();
    for probes in [2, 300] {
        let mut import = import(probes);
        let before = world.store.statements();
        assert!(
            stage(&world.store, world, &mut import, checksum())
                .await
                .unwrap()
        );
        let staged = world.store.statements();
        commit(world, &import).await.unwrap();
        counted.push((staged - before, world.store.statements() - staged));
    }
    assert_eq!(counted[0], counted[1]);
    assert_eq!(counted[0], (4, 15));
}
