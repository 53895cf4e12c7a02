//! Step 12: garbage is marked, deleted after its grace, and forgotten last; what is in use stays.

use std::{collections::BTreeSet, time::Duration};

use aegis_catalog::{
    domain::{
        artifact::ArtifactName,
        keeping::{Claimed, JobClaim, JobEnd, KeepLabels, Step, Sweep},
        task::OutcomeKind,
    },
    store::Garbage,
};
use aegis_proto::ids::ScanId;
use serde_json::json;

use crate::{
    on_both,
    world::{World, checksum, new_scan, outcome, refused, tally},
};

on_both!(
    what_no_run_will_commit_is_marked,
    a_late_writer_cannot_make_a_marked_file_visible,
    parts_are_marked_once_a_report_has_them,
    a_report_is_composed_from_the_one_before,
    marked_files_wait_for_their_grace_and_go_last,
    a_purged_scan_leaves_nothing,
    a_restored_scan_is_not_purged,
    a_purge_that_is_cut_short_goes_on,
    old_scans_are_deleted_restorably,
    so_many_scans_of_a_target_are_kept,
    old_requests_and_runs_are_forgotten,
    a_compacted_log_keeps_what_its_timeline_shows,
    objects_without_a_row_are_noted_and_rows_without_an_object_found,
    one_replica_at_a_time_runs_a_job,
    a_position_of_other_work_is_refused,
);

const NOTHING: Step = Step {
    after: String::new(),
    limit: 100,
    dry_run: false,
};

/// Objects to delete now, oldest first.
async fn garbage(world: &World, grace_ms: i64) -> Vec<String> {
    let mut step = Step {
        limit: 2,
        ..NOTHING
    };
    let mut keys = Vec::new();
    loop {
        let page = world.store.garbage(&world.project, grace_ms, &step).await;
        let page = page.unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.object_key));
        if page.next.is_empty() {
            return keys;
        }
        step.after = page.next;
    }
}

/// All that is marked is deleted, without any grace; how many rows went.
async fn collect(world: &World) -> u64 {
    world
        .sql(
            "UPDATE artifacts SET marked_at = 1 WHERE state = 'DELETING'",
            vec![],
        )
        .await;
    let keys = garbage(world, 0).await;
    let forget = world.store.forget_garbage(&world.project, &keys);
    forget.await.unwrap()
}

/// It was deleted, and its time to be restored is over.
pub(crate) async fn past_its_time(world: &World, id: ScanId) {
    world.store.delete(&world.project, id).await.unwrap();
    world
        .sql(
            "UPDATE scans SET purge_at = 1 WHERE id = $1",
            vec![id.0.into()],
        )
        .await;
}

/// Deletes a scan and all that is of it, as the jobs do over time.
pub(crate) async fn purge(world: &World, id: ScanId) {
    past_its_time(world, id).await;
    world.sweep(&Sweep::Purge).await;
    collect(world).await;
    world.sweep(&Sweep::Purge).await;
}

async fn states(world: &World) -> BTreeSet<(String, String)> {
    let rows = world.sql("SELECT name, state FROM artifacts", vec![]).await;
    let pair = |row: &sea_orm::QueryResult| {
        (
            row.try_get("", "name").unwrap(),
            row.try_get("", "state").unwrap(),
        )
    };
    rows.iter().map(pair).collect()
}

async fn what_no_run_will_commit_is_marked(world: &World) {
    world.create(2).await;
    let live = world.leased().await;
    let stage = world
        .store
        .stage(&world.project, &live.lease, ArtifactName::Report);
    stage.await.unwrap();
    let lost = world.leased().await;
    let hits = world
        .upload(&lost.lease, ArtifactName::Hitlog, None)
        .await
        .unwrap();
    let overdue = "UPDATE artifacts SET upload_deadline = 1";
    world.sql(overdue, vec![]).await;
    // Both are of runs that hold their tasks, however late they are.
    assert_eq!(world.sweep(&Sweep::Unfinished).await.counted("marked"), 0);
    world.fail(&lost, OutcomeKind::Released, "").await;
    let would = world.would_sweep(&Sweep::Unfinished).await;
    assert_eq!((would.counted("marked"), would.details.len()), (1, 1));
    let marked = world.sweep(&Sweep::Unfinished).await;
    assert_eq!(marked.counts, would.counts);
    assert!(marked.details[0].contains("its run is over"), "{marked:?}");
    let state = "SELECT COUNT(*) FROM artifacts WHERE state = 'DELETING'";
    assert_eq!(world.number(state).await, 1);
    let id = world
        .sql("SELECT id FROM artifacts WHERE state = 'DELETING'", vec![])
        .await;
    assert_eq!(id[0].try_get::<uuid::Uuid>("", "id").unwrap(), hits.0);
    // A file that came before its task, as an import's does, has its time.
    let early = "INSERT INTO artifacts (project_id, id, scan_id, task_id, epoch, name, object_key,
            state, revision, created_at, upload_deadline)
        VALUES ('default', $1, $1, $1, 1, 'report.jsonl', $2, 'STAGED', 0, 1, $3)";
    for (key, deadline) in [("default/early", i64::MAX), ("default/late", 1)] {
        let id = uuid::Uuid::now_v7();
        world
            .sql(early, vec![id.into(), key.into(), deadline.into()])
            .await;
    }
    let marked = world.sweep(&Sweep::Unfinished).await;
    assert_eq!(marked.details, ["mark default/late: its time is over"]);
}

async fn a_late_writer_cannot_make_a_marked_file_visible(world: &World) {
    let scan = world.create(1).await;
    let zombie = world.leased().await;
    let file = world.uploaded(&zombie).await.unwrap();
    world.age_leases().await;
    assert_eq!(world.expire().await, 1);
    assert_eq!(world.sweep(&Sweep::Unfinished).await.counted("marked"), 1);
    let lost = "ABORTED/LEASE_LOST";
    assert_eq!(refused(world.finish(&zombie.lease, &file).await), lost);
    assert_eq!(refused(world.uploaded(&zombie).await), lost);
    let (project, checksum) = (&world.project, checksum());
    let id = file.artifacts[0];
    let complete = world
        .store
        .complete(project, &zombie.lease, id, &checksum, None);
    assert_eq!(refused(complete.await), lost);
    // The next run is not touched by it.
    world.work_off().await;
    assert_eq!(world.get(scan).await.scan.evaluated, 1);
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM artifacts WHERE state = 'DELETING'")
            .await,
        1
    );
}

async fn parts_are_marked_once_a_report_has_them(world: &World) {
    let id = world.create(3).await;
    for _ in 0..3 {
        let granted = world.leased().await;
        world.done(&granted).await.unwrap();
    }
    assert_eq!(world.sweep(&Sweep::Parts).await.counted("marked"), 0);
    world.work_off().await;
    let would = world.would_sweep(&Sweep::Parts).await;
    assert_eq!(would.counted("marked"), 3);
    assert_eq!(world.sweep(&Sweep::Parts).await.counts, would.counts);
    assert_eq!(world.sweep(&Sweep::Parts).await.counted("marked"), 0);
    assert_eq!(collect(world).await, 3);
    // All is read from the report now.
    let found = world
        .store
        .locate(&world.project, id, "test.Probe1")
        .await
        .unwrap();
    assert_eq!(found.artifact.revision, 1);
    let files = world
        .store
        .report_artifacts(&world.project, id, 0)
        .await
        .unwrap();
    assert_eq!(files.len(), 3);
}

async fn a_report_is_composed_from_the_one_before(world: &World) {
    let id = world.create(2).await;
    let first = world.leased().await;
    world.done(&first).await.unwrap();
    let second = world.leased().await;
    world
        .fail(&second, OutcomeKind::Permanent, "BAD_CONFIG")
        .await;
    world.work_off().await;
    world.sweep(&Sweep::Parts).await;
    assert_eq!(collect(world).await, 1);
    world.store.retry(&world.project, id).await.unwrap();
    let again = world.leased().await;
    let tally = tally("test.Probe1", 1, 1);
    let report = world.upload(&again.lease, ArtifactName::Report, Some(&tally));
    let hits = world.upload(&again.lease, ArtifactName::Hitlog, None);
    let (report, hits) = (report.await.unwrap(), hits.await.unwrap());
    let mut done = outcome(OutcomeKind::Done, "");
    done.artifacts = vec![report, hits];
    world.finish(&again.lease, &done).await.unwrap();
    let making = world.leased().await;
    let parts = world
        .store
        .report_parts(&world.project, &making.lease)
        .await
        .unwrap();
    assert_eq!(parts.revision, 2);
    let places: Vec<_> = parts
        .parts
        .iter()
        .map(|part| {
            (
                part.probe.as_str(),
                part.report.revision,
                part.hitlog.is_some(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [("test.Probe0", 1, false), ("test.Probe1", 0, true)]
    );
    world.done(&making).await.unwrap();
    assert_eq!(world.sweep(&Sweep::Parts).await.counted("marked"), 2);
    assert_eq!(world.get(id).await.scan.report.ready_revision, 2);
}

async fn marked_files_wait_for_their_grace_and_go_last(world: &World) {
    world.create(3).await;
    world.work_off().await;
    world.sweep(&Sweep::Parts).await;
    assert!(garbage(world, 3_600_000).await.is_empty());
    world
        .sql(
            "UPDATE artifacts SET marked_at = marked_at - 3600001 WHERE state = 'DELETING'",
            vec![],
        )
        .await;
    let keys = garbage(world, 3_600_000).await;
    assert_eq!(keys.len(), 3);
    // Deleted, and then the collector died: the rows are there, and are found again.
    assert_eq!(garbage(world, 3_600_000).await, keys);
    let forget = async |keys: &[String]| {
        let forget = world.store.forget_garbage(&world.project, keys).await;
        forget.unwrap()
    };
    assert_eq!(forget(&keys).await, 3);
    assert_eq!(forget(&keys).await, 0);
    // What is in use is never forgotten, whatever is said of it.
    let rows = world.sql("SELECT object_key FROM artifacts", vec![]).await;
    let in_use: Vec<String> = rows
        .iter()
        .map(|row| row.try_get("", "object_key").unwrap())
        .collect();
    assert_eq!(in_use.len(), 3);
    assert_eq!(forget(&in_use).await, 0);
}

async fn a_purged_scan_leaves_nothing(world: &World) {
    let mut new = new_scan(3);
    new.key.method = "Create".to_owned();
    new.key.request_id = "r-1".to_owned();
    let id = world.create_new(&new).await;
    let kept = world.create(1).await;
    world.work_off().await;
    past_its_time(world, id).await;
    let would = world.would_sweep(&Sweep::Purge).await;
    assert_eq!(would.counted("purged"), 1);
    assert_eq!(
        would.details,
        [format!("purge scan {id}: its time to be restored is over")]
    );
    let purged = world.sweep(&Sweep::Purge).await;
    assert_eq!(purged.details, would.details);
    // 3 parts and 3 files of the report; 4 tasks with a run each.
    let counts = ["marked", "tasks", "runs", "scans"].map(|what| purged.counted(what));
    assert_eq!(counts, [6, 4, 4, 0]);
    // Its row stays until its files are gone.
    assert_eq!(world.would_sweep(&Sweep::Purge).await.counted("purged"), 0);
    assert_eq!(world.number("SELECT COUNT(*) FROM scans").await, 2);
    assert_eq!(collect(world).await, 6);
    assert_eq!(world.sweep(&Sweep::Purge).await.counted("scans"), 1);
    for (table, left) in [
        ("scans", 1),
        ("tasks", 2),
        ("task_runs", 2),
        ("probe_results", 1),
        ("artifacts", 4),
        ("scan_labels", 1),
        ("scan_probes", 1),
    ] {
        let number = world.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(number, left, "{table}");
    }
    let events = "SELECT COUNT(DISTINCT scan_id) FROM scan_events";
    assert_eq!(world.number(events).await, 1);
    assert_eq!(world.get(kept).await.scan.evaluated, 1);
    let restore = world.store.undelete(&world.project, id).await;
    assert_eq!(refused(restore), "NOT_FOUND/SCAN_NOT_FOUND");
}

async fn a_restored_scan_is_not_purged(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    world.store.delete(&world.project, id).await.unwrap();
    // Its time is not over.
    assert!(world.sweep(&Sweep::Purge).await.counts.is_empty());
    world.store.undelete(&world.project, id).await.unwrap();
    assert!(world.sweep(&Sweep::Purge).await.counts.is_empty());
    assert_eq!(world.get(id).await.scan.evaluated, 1);
}

async fn a_purge_that_is_cut_short_goes_on(world: &World) {
    let id = world.create(3).await;
    world.work_off().await;
    past_its_time(world, id).await;
    let step = Step {
        limit: 2,
        ..NOTHING
    };
    // Each time it dies after a step; nothing is counted twice.
    let mut purged = 0;
    for _ in 0..40 {
        let swept = world
            .store
            .sweep(&world.project, &Sweep::Purge, &step)
            .await
            .unwrap();
        purged += swept.counted("purged");
        crate::invariants::check(world).await;
    }
    assert_eq!(purged, 1);
    assert_eq!(
        states(world)
            .await
            .iter()
            .filter(|(_, state)| state != "DELETING")
            .count(),
        0
    );
    assert_eq!(collect(world).await, 6);
    world.sweep(&Sweep::Purge).await;
    assert_eq!(world.number("SELECT COUNT(*) FROM scans").await, 0);
}

async fn old_scans_are_deleted_restorably(world: &World) {
    let mut ids = Vec::new();
    for keep in ["", "yes", "", "no"] {
        let mut new = new_scan(1);
        if !keep.is_empty() {
            new.labels.insert("keep".to_owned(), keep.to_owned());
        }
        ids.push(world.create_new(&new).await);
    }
    world.work_off().await;
    let runs = world.create(1).await;
    for id in &ids[..2] {
        let old = "UPDATE scans SET ended_at = ended_at - 3456000000 WHERE id = $1";
        world.sql(old, vec![id.0.into()]).await;
    }
    let age =
        |labels: &[&str]| Sweep::Age(30 * 86_400_000, KeepLabels::new(labels.iter().copied()));
    let would = world.would_sweep(&age(&["keep=yes"])).await;
    assert_eq!(
        would.details,
        [format!("delete scan {}: it ended 40 days ago", ids[0])]
    );
    assert_eq!(would.counted("kept_by_label"), 1);
    assert_eq!(world.get(ids[0]).await.scan.evaluated, 1);
    assert_eq!(world.sweep(&age(&["keep=yes"])).await, would);
    let gone = world.store.get(&world.project, ids[0]).await;
    assert_eq!(refused(gone), "NOT_FOUND/SCAN_NOT_FOUND");
    for id in [ids[1], ids[2], ids[3], runs] {
        world.get(id).await;
    }
    // It is not purged before its time, and comes back.
    world.sweep(&Sweep::Purge).await;
    world.store.undelete(&world.project, ids[0]).await.unwrap();
    // For statistics: the day that it ended is the day that it counts.
    let back = "UPDATE scans SET ended_at = ended_at + 3456000000 WHERE id = $1";
    for id in &ids[..2] {
        world.sql(back, vec![id.0.into()]).await;
    }
}

async fn so_many_scans_of_a_target_are_kept(world: &World) {
    let mut of_x = Vec::new();
    let mut of_y = Vec::new();
    for n in 0..5 {
        let mut new = new_scan(1);
        if n == 0 {
            new.labels.insert("keep".to_owned(), "yes".to_owned());
        }
        of_x.push(world.create_new(&new).await);
        new.target_name = "y".to_owned();
        new.labels.clear();
        if n < 2 {
            of_y.push(world.create_new(&new).await);
        }
        world.work_off().await;
        // Otherwise several have the same time.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    of_x.push(world.create(1).await);
    let count = Sweep::Count(2, KeepLabels::new(["keep"]));
    let would = world.would_sweep(&count).await;
    let line = |id| format!("delete scan {id}: its target has 2 newer ones");
    assert_eq!(would.details, [line(of_x[2]), line(of_x[1])]);
    assert_eq!(world.sweep(&count).await, would);
    for id in [of_x[0], of_x[3], of_x[4], of_x[5], of_y[0], of_y[1]] {
        world.get(id).await;
    }
    assert_eq!(world.sweep(&count).await.counted("deleted"), 0);
}

async fn old_requests_and_runs_are_forgotten(world: &World) {
    for n in 0..5 {
        let mut new = new_scan(1);
        new.key.method = "Create".to_owned();
        new.key.request_id = format!("r-{n}");
        world.create_new(&new).await;
    }
    world.work_off().await;
    assert!(world.sweep(&Sweep::Requests).await.counts.is_empty());
    let old = "UPDATE idempotency SET expires_at = 1 WHERE request_id <> 'r-0'";
    world.sql(old, vec![]).await;
    assert_eq!(
        world
            .would_sweep(&Sweep::Requests)
            .await
            .counted("requests"),
        4
    );
    assert_eq!(world.sweep(&Sweep::Requests).await.counted("requests"), 4);
    let runs = Sweep::Runs(86_400_000);
    assert!(world.sweep(&runs).await.counts.is_empty());
    let old = "UPDATE task_runs SET ended_at = 1 WHERE runner = 'runner-1'";
    world.sql(old, vec![]).await;
    world.create(1).await;
    let open = world.leased().await;
    assert_eq!(world.sweep(&runs).await.counted("runs"), 10);
    world.done(&open).await.unwrap();
}

async fn a_compacted_log_keeps_what_its_timeline_shows(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    let call = aegis_catalog::store::ReportCall {
        lease: granted.lease.clone(),
        progress: None,
        detectors_finished: (1..=5).map(|n| (n, format!("a.D{n}"))).collect(),
        ttl_ms: 60_000,
    };
    world.store.report(&world.project, &call).await.unwrap();
    world.done(&granted).await.unwrap();
    world.work_off().await;
    let before = world.kinds(id).await;
    let events = Sweep::Events(86_400_000);
    assert!(world.sweep(&events).await.counts.is_empty());
    world
        .sql("UPDATE scans SET ended_at = ended_at - 86400001", vec![])
        .await;
    assert_eq!(world.sweep(&events).await.counted("events"), 5);
    world
        .sql("UPDATE scans SET ended_at = ended_at + 86400001", vec![])
        .await;
    let after: Vec<String> = before
        .into_iter()
        .filter(|kind| kind != "DETECTOR_FINISHED")
        .collect();
    assert_eq!(world.kinds(id).await, after);
    // Whoever watches it gets the rest, and its end.
    assert_eq!(world.log(id).await.len(), after.len());
    world
        .sql("UPDATE scans SET ended_at = ended_at - 86400001", vec![])
        .await;
    assert!(world.sweep(&events).await.counts.is_empty());
    world
        .sql("UPDATE scans SET ended_at = ended_at + 86400001", vec![])
        .await;
}

async fn objects_without_a_row_are_noted_and_rows_without_an_object_found(world: &World) {
    world.create(1).await;
    world.work_off().await;
    world.sweep(&Sweep::Parts).await;
    let rows = world.sql("SELECT object_key FROM artifacts", vec![]).await;
    let mut keys: Vec<String> = rows
        .iter()
        .map(|row| row.try_get("", "object_key").unwrap())
        .collect();
    keys.push(format!("{}.index", keys[0]));
    keys.push("default/scans/nobody/report.jsonl".to_owned());
    let objects: Vec<Garbage> = keys
        .iter()
        .map(|key| Garbage {
            object_key: key.clone(),
            size: 5,
        })
        .collect();
    let look = async |dry_run| {
        let found = world.store.orphans(&world.project, &objects, dry_run).await;
        let found = found.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].object_key, "default/scans/nobody/report.jsonl");
        found[0].known_for_ms
    };
    assert_eq!(look(true).await, None);
    assert_eq!(look(false).await, None);
    assert!(look(false).await.is_some_and(|ms| ms >= 0));
    let forgotten = world
        .store
        .forget_garbage(&world.project, &keys[keys.len() - 1..])
        .await;
    assert_eq!(forgotten.unwrap(), 1);
    // Rows of files that readers may ask for: not the part, which is marked.
    let mut committed = Vec::new();
    let mut step = Step {
        limit: 2,
        ..NOTHING
    };
    loop {
        let page = world.store.committed(&world.project, &step).await.unwrap();
        committed.extend(page.objects);
        if !page.more {
            break;
        }
        step.after = page.last;
    }
    assert_eq!(committed.len(), 3);
    assert!(
        committed.iter().all(|object| object.size == 42),
        "{committed:?}"
    );
}

async fn one_replica_at_a_time_runs_a_job(world: &World) {
    let claim = |holder: &str, when_due| JobClaim {
        name: "gc".to_owned(),
        holder: holder.to_owned(),
        period_ms: 600_000,
        ttl_ms: 30_000,
        when_due,
    };
    let take = async |holder: &str, when_due| {
        let claim = claim(holder, when_due);
        world.store.claim_job(&world.project, &claim).await.unwrap()
    };
    // A new job is due after a tenth of its period.
    let Claimed::NotDue(wait) = take("a", true).await else {
        panic!("it is not due yet");
    };
    assert!((1..=60_000).contains(&wait), "{wait}");
    assert_eq!(take("a", false).await, Claimed::Ours(String::new()));
    assert_eq!(take("a", false).await, Claimed::Ours(String::new()));
    assert_eq!(take("b", false).await, Claimed::Running);
    let renew = async |holder: &str| {
        let renew = world.store.renew_job(&world.project, "gc", holder, 30_000);
        renew.await
    };
    renew("a").await.unwrap();
    assert_eq!(refused(renew("b").await), "ABORTED/JOB_LOST");
    let end = async |holder: &str, run| {
        let end = JobEnd {
            run,
            position: "here".to_owned(),
            wait_ms: 500_000,
        };
        world
            .store
            .end_job(&world.project, "gc", holder, &end)
            .await
    };
    assert_eq!(refused(end("b", None).await), "ABORTED/JOB_LOST");
    // A dry run leaves no trace.
    end("a", None).await.unwrap();
    let states = world.store.job_states(&world.project).await.unwrap();
    assert_eq!((states[0].running, &states[0].last_run), (false, &None));
    take("a", false).await;
    // Its holder died.
    world
        .sql("UPDATE jobs SET held_until = 1, next_at = 1", vec![])
        .await;
    assert_eq!(take("b", true).await, Claimed::Ours(String::new()));
    end("b", Some(json!({"succeeded": true}))).await.unwrap();
    assert_eq!(refused(end("a", Some(json!({}))).await), "ABORTED/JOB_LOST");
    let states = world.store.job_states(&world.project).await.unwrap();
    assert_eq!(states[0].last_run, Some(json!({"succeeded": true})));
    assert!(matches!(take("b", true).await, Claimed::NotDue(wait) if wait > 60_000));
    assert_eq!(take("b", false).await, Claimed::Ours("here".to_owned()));
    end("b", None).await.unwrap();
}

async fn a_position_of_other_work_is_refused(world: &World) {
    let step = Step {
        after: "\"x\"".to_owned(),
        ..NOTHING
    };
    for sweep in [Sweep::Unfinished, Sweep::Parts, Sweep::Purge] {
        let swept = world.store.sweep(&world.project, &sweep, &step).await;
        assert_eq!(
            refused(swept),
            "INVALID_ARGUMENT/INVALID_FIELD",
            "{sweep:?}"
        );
    }
}
