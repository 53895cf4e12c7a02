//! Step 12: garbage is marked, deleted after its grace, and forgotten last; what is in use stays.

use std::collections::BTreeSet;

use aegis_catalog::domain::{
    artifact::ArtifactName,
    keeping::{Step, Sweep},
    task::OutcomeKind,
};
use aegis_proto::ids::ScanId;

use crate::{
    on_both,
    world::{World, checksum, outcome, refused, tally},
};

on_both!(
    what_no_run_will_commit_is_marked,
    a_late_writer_cannot_make_a_marked_file_visible,
    parts_are_marked_once_a_report_has_them,
    a_report_is_composed_from_the_one_before,
    marked_files_wait_for_their_grace_and_go_last,
);

pub(crate) const NOTHING: Step = Step {
    after: String::new(),
    limit: 100,
    dry_run: false,
};

/// Objects to delete now, oldest first.
pub(crate) async fn garbage(world: &World, grace_ms: i64) -> Vec<String> {
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
pub(crate) async fn collect(world: &World) -> u64 {
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

pub(crate) async fn states(world: &World) -> BTreeSet<(String, String)> {
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
