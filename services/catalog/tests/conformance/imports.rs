//! Scans that ran elsewhere: one like any other, once and whole.

use std::collections::BTreeMap;

use aegis_catalog::{
    domain::{
        artifact::{ArtifactName, Checksum},
        history::{ScanFilter, ScanQuery},
        import::{File, Header, Import, Report},
        scan::{Original, ReportState, ScanState},
        tally::{Grades, Tally, TallyRow},
    },
    store::{FindingQuery, Imported, StagedImport, Store},
};
use aegis_mesh::Result;
use aegis_proto::ids::{ScanId, TaskId};
use serde_json::json;

use crate::{
    on_both,
    world::{World, checksum, refused},
};

on_both!(
    an_import_is_a_scan_like_any_other,
    the_same_report_changes_nothing_and_another_is_refused,
    of_two_imports_at_once_one_makes_the_scan,
    a_dry_run_keeps_nothing,
);

/// 2024-05-01 10:00:00 UTC.
pub(crate) const MAY: i64 = 1_714_557_600_000;

pub(crate) fn row(probe: &str, detector: &str, passed: i64, failed: i64) -> TallyRow {
    TallyRow {
        probe: probe.to_owned(),
        detector: detector.to_owned(),
        passed,
        failed,
        nones: 1,
        evaluated: passed + failed,
        grades: None,
    }
}

/// An import of so many probes with results, and one without.
pub(crate) fn import(probes: usize) -> Import {
    let names = (0..probes).map(|n| (format!("test.Probe{n}"), 5));
    let mut rows: Vec<_> = (0..probes)
        .map(|n| row(&format!("test.Probe{n}"), "test.Detector", 3, 1))
        .collect();
    rows[0].grades = Some(Grades {
        detector_defcon: Some(2),
        ..Grades::default()
    });
    Import {
        id: ScanId(uuid::Uuid::new_v4()),
        spec: json!({"target": {"type": "openai", "name": "gpt-3.5-turbo"}}),
        target_type: "openai".to_owned(),
        target_name: "gpt-3.5-turbo".to_owned(),
        created_by: "local".to_owned(),
        header: Header {
            display_name: "An old scan".to_owned(),
            labels: BTreeMap::from([("from".to_owned(), "before".to_owned())]),
            original: Original {
                options: Some(json!({"generations": 5})),
                counts: None,
            },
            ..Header::default()
        },
        task: TaskId::generate(),
        files: Vec::new(),
        report: Some(Report {
            garak_version: "0.10.3".to_owned(),
            started_at: Some(MAY),
            ended_at: Some(MAY + 60_000),
            seed: 7,
            eval_threshold: 0.5,
            probes: names.chain([("test.Silent".to_owned(), 4)]).collect(),
            tally: Tally {
                attempts: 5 * probes as i64 + 4,
                rows,
            },
        }),
        dry_run: false,
    }
}

/// Stages an import's files, and names their rows in it.
pub(crate) async fn stage(
    store: &Store,
    world: &World,
    import: &mut Import,
    report: Checksum,
) -> Result<bool> {
    let names = [ArtifactName::Report, ArtifactName::Hitlog];
    let staged = store
        .stage_import(&world.project, import.id, Some(&report), &names)
        .await?;
    let StagedImport::Rows(task, rows) = staged else {
        return Ok(false);
    };
    import.task = task;
    let files = rows.into_iter().map(|row| File {
        artifact: Some(row.id),
        name: row.name,
        checksum: report.clone(),
    });
    import.files = files.collect();
    Ok(true)
}

pub(crate) async fn commit(world: &World, import: &Import) -> Result<Imported> {
    world.store.commit_import(&world.project, import).await
}

/// All of it.
pub(crate) async fn take_in(world: &World, import: &mut Import) -> Imported {
    assert!(
        stage(&world.store, world, import, checksum())
            .await
            .unwrap()
    );
    commit(world, import).await.unwrap()
}

async fn an_import_is_a_scan_like_any_other(world: &World) {
    let mut import = import(2);
    let hidden = async |id| refused(world.store.get(&world.project, id).await);
    assert_eq!(hidden(import.id).await, "NOT_FOUND/SCAN_NOT_FOUND");
    assert!(
        stage(&world.store, world, &mut import, checksum())
            .await
            .unwrap()
    );
    // Its rows are there, and nobody sees anything.
    assert_eq!(hidden(import.id).await, "NOT_FOUND/SCAN_NOT_FOUND");
    assert_eq!(world.number("SELECT COUNT(*) FROM scan_labels").await, 0);
    let imported = commit(world, &import).await.unwrap();
    assert!(!imported.unchanged);
    assert_eq!(imported.warnings, [""; 0]);

    let view = world.get(import.id).await;
    let scan = &view.scan;
    assert_eq!(
        scan, &imported.view.scan,
        "what is answered is what is there"
    );
    assert!(scan.imported);
    assert_eq!(scan.state, ScanState::Completed);
    assert_eq!(
        (scan.created_at, scan.started_at, scan.ended_at),
        (MAY, Some(MAY), Some(MAY + 60_000))
    );
    assert_eq!(
        (scan.planned, scan.evaluated, scan.not_evaluated),
        (3, 2, 1)
    );
    assert_eq!(
        (scan.totals.passed, scan.totals.failed, scan.totals.nones),
        (6, 2, 2)
    );
    assert_eq!((view.attempts_done, view.attempts_total), (14, 14));
    assert_eq!(
        (scan.report.state, scan.report.revision),
        (ReportState::Ready, 1)
    );
    assert_eq!(scan.report.artifacts, ["report.jsonl", "hitlog.jsonl"]);
    assert_eq!(scan.defcon, Some(2));
    assert_eq!(view.not_evaluated[0].probe, "test.Silent");
    assert_eq!(view.not_evaluated[0].reason, "NOTHING_EVALUATED");
    assert_eq!(scan.original, Some(import.header.original.clone()));
    is_read(world, &import).await;
    is_found(world, import.id).await;
    let kinds = world.kinds(import.id).await;
    assert_eq!(kinds, ["STATE_CHANGED", "REPORT_READY", "STATE_CHANGED"]);
    let log = world.log(import.id).await;
    assert_eq!((log[0].at, log[2].at), (MAY, MAY + 60_000));
}

/// By all that reads results and reports.
async fn is_read(world: &World, import: &Import) {
    let (store, project, id) = (&world.store, &world.project, import.id);
    let results = store.results(project, id, None, 10).await.unwrap().results;
    assert_eq!(results.len(), 2);
    assert!(
        results
            .iter()
            .all(|result| result.evaluated_at == MAY + 60_000)
    );
    let files = store.report_artifacts(project, id, 0).await.unwrap();
    assert_eq!(files.len(), 2);
    assert!(
        files
            .iter()
            .all(|file| file.checksum == Some(checksum()) && file.revision == 1)
    );
    let located = store.locate(project, id, "test.Probe1").await.unwrap();
    assert_eq!(located.artifact.name, ArtifactName::Report);
    let nowhere = store.locate(project, id, "test.Silent").await;
    assert_eq!(refused(nowhere), "NOT_FOUND/PROBE_NOT_EVALUATED");
    let (all, _) = store.locate_all(project, id).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].artifact.id, all[0].probe.as_str()),
        (located.artifact.id, "")
    );
    let query = findings("test.Probe0");
    let (found, _) = store.finding_reports(project, &query).await.unwrap();
    assert_eq!(found[0].artifact.id, located.artifact.id);
    let moments = store.moments(project, id).await.unwrap();
    assert_eq!(moments.len(), 3);
    let compared = store.compared(project, &[id]).await.unwrap();
    assert_eq!(compared[0].results.len(), 2);
}

pub(crate) fn findings(probe: &str) -> FindingQuery {
    FindingQuery {
        target_type: "openai".to_owned(),
        target_name: "gpt-3.5-turbo".to_owned(),
        probe: probe.to_owned(),
        detector: String::new(),
        after: None,
        limit: 10,
    }
}

/// By the filters of the history; what it came with is in none of its lists.
async fn is_found(world: &World, id: ScanId) {
    let filters = [
        ScanFilter::default(),
        ScanFilter {
            text: "an old".to_owned(),
            ..ScanFilter::default()
        },
        ScanFilter {
            labels: [("from".to_owned(), "before".to_owned())].into(),
            ..ScanFilter::default()
        },
        ScanFilter {
            probe: "test.Silent".to_owned(),
            ..ScanFilter::default()
        },
    ];
    for filter in filters {
        let query = ScanQuery {
            filter,
            ..ScanQuery::default()
        };
        let page = world.store.list(&world.project, &query, None, 10).await;
        let page = page.unwrap();
        let found: Vec<_> = page.scans.iter().map(|view| view.scan.id).collect();
        assert_eq!(found, [id], "{query:?}");
        assert_eq!(page.scans[0].scan.original, Some(Original::default()));
    }
}

async fn the_same_report_changes_nothing_and_another_is_refused(world: &World) {
    let mut first = import(2);
    take_in(world, &mut first).await;
    // An answer that was lost: the same task says the same again.
    assert!(!commit(world, &first).await.unwrap().unchanged);
    let rows = "SELECT COUNT(*) FROM artifacts";
    let before = world.number(rows).await;
    let mut again = Import {
        header: Header::default(),
        ..first.clone()
    };
    assert!(
        !stage(&world.store, world, &mut again, checksum())
            .await
            .unwrap()
    );
    assert_eq!(world.number(rows).await, before, "nothing is staged");
    again.task = TaskId::generate();
    let imported = commit(world, &again).await.unwrap();
    assert!(imported.unchanged);
    assert_eq!(imported.view.scan.display_name, "An old scan");

    let other = Checksum {
        size: 43,
        ..checksum()
    };
    let staged = stage(&world.store, world, &mut again, other.clone()).await;
    assert_eq!(refused(staged), "ALREADY_EXISTS/SCAN_EXISTS");
    again.files[0].checksum = other;
    assert_eq!(
        refused(commit(world, &again).await),
        "ALREADY_EXISTS/SCAN_EXISTS"
    );
    let lost = Import {
        files: Vec::new(),
        report: None,
        ..first
    };
    assert_eq!(
        refused(commit(world, &lost).await),
        "ALREADY_EXISTS/SCAN_EXISTS"
    );
    // One of this installation, which has no report at all.
    let own = world.create(1).await;
    let staged = world
        .store
        .stage_import(&world.project, own, None, &[])
        .await;
    assert_eq!(refused(staged), "ALREADY_EXISTS/SCAN_EXISTS");
    world.work_off().await;
}

async fn of_two_imports_at_once_one_makes_the_scan(world: &World) {
    let replica = world.replica().await;
    for _ in 0..8 {
        let mut one = import(3);
        let mut other = one.clone();
        assert!(
            stage(&world.store, world, &mut one, checksum())
                .await
                .unwrap()
        );
        assert!(
            stage(&replica, world, &mut other, checksum())
                .await
                .unwrap()
        );
        let (a, b) = tokio::join!(
            commit(world, &one),
            replica.commit_import(&world.project, &other)
        );
        let unchanged = [a.unwrap().unchanged, b.unwrap().unchanged];
        assert!(
            unchanged.contains(&true) && unchanged.contains(&false),
            "{unchanged:?}"
        );
        let files = world
            .store
            .report_artifacts(&world.project, one.id, 0)
            .await;
        assert_eq!(files.unwrap().len(), 2);
    }
    // What the others staged is left to be collected.
    let left = "SELECT COUNT(*) FROM artifacts WHERE state = 'STAGED'";
    assert_eq!(world.number(left).await, 16);
}

async fn a_dry_run_keeps_nothing(world: &World) {
    let mut dry = Import {
        dry_run: true,
        ..import(2)
    };
    dry.files.push(File {
        artifact: None,
        name: ArtifactName::Report,
        checksum: checksum(),
    });
    let imported = commit(world, &dry).await.unwrap();
    assert_eq!(imported.view.scan.evaluated, 2);
    assert_eq!(imported.view.scan.report.artifacts, ["report.jsonl"]);
    for table in [
        "scans",
        "tasks",
        "artifacts",
        "scan_events",
        "lanes",
        "statistics_deltas",
    ] {
        let rows = world.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
    let mut real = Import {
        dry_run: false,
        ..dry.clone()
    };
    take_in(world, &mut real).await;
    assert!(commit(world, &dry).await.unwrap().unchanged);
}
