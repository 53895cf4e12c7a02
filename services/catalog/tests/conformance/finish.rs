//! Step 7: one fenced transaction ends a run, and the same end may be said again.

use aegis_catalog::{
    domain::{
        artifact::ArtifactName,
        event::Event,
        scan::ScanState,
        task::{Outcome, OutcomeKind, TaskProgress},
    },
    store::Work,
};
use futures_util::future::join_all;

use crate::{
    on_both,
    world::{POLICY, World, outcome, probe, refused, tally},
};

on_both!(
    a_done_probe_has_exactly_artifacts_counts,
    a_repeated_finish_is_accepted_and_counts_once,
    the_same_finish_twice_at_once_counts_once,
    another_outcome_for_the_same_run_is_refused,
    a_zombie_cannot_finish,
    done_needs_its_report_uploaded_by_this_run,
    nothing_scored_is_not_evaluated,
    a_report_of_another_probe_counts_for_nothing,
    a_retryable_failure_is_retried_with_backoff_until_used_up,
    a_permanent_failure_is_not_retried,
    a_released_task_is_leased_again_at_once,
);

async fn a_done_probe_has_exactly_artifacts_counts(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    let outcome = world.uploaded(&granted).await.unwrap();
    let progress = TaskProgress {
        attempts_done: 3,
        attempts_total: 99,
        target_retries: 2,
    };
    let finish = world.store.finish(
        &world.project,
        &granted.lease,
        &outcome,
        Some(progress),
        &POLICY,
    );
    finish.await.unwrap();
    let view = world.get(id).await;
    assert_eq!((view.scan.evaluated, view.scan.not_evaluated), (1, 0));
    let totals = view.scan.totals;
    assert_eq!((totals.passed, totals.failed, totals.nones), (3, 1, 1));
    assert_eq!(totals.pass_rate(), Some(0.75));
    // The report has 5 attempts, whatever the runner said; 10 are planned of the other.
    assert_eq!((view.attempts_done, view.attempts_total), (5, 15));
    assert_eq!(view.scan.in_flight, 0);
    let page = world
        .store
        .results(&world.project, id, None, 10)
        .await
        .unwrap();
    assert_eq!(page.results[0].row, tally(probe(&granted), 3, 1).rows[0]);
    assert_eq!(world.kinds(id).await.last().unwrap(), "PROBE_EVALUATED");
}

async fn a_repeated_finish_is_accepted_and_counts_once(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    let outcome = world.uploaded(&granted).await.unwrap();
    for _ in 0..3 {
        world.finish(&granted.lease, &outcome).await.unwrap();
    }
    let view = world.get(id).await;
    assert_eq!((view.scan.evaluated, view.scan.totals.passed), (1, 3));
    // Also once the scan has ended.
    world.work_off().await;
    world.finish(&granted.lease, &outcome).await.unwrap();
    assert_eq!(world.get(id).await.scan.state, ScanState::Completed);
}

async fn the_same_finish_twice_at_once_counts_once(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    let outcome = world.uploaded(&granted).await.unwrap();
    let other = world.replica().await;
    let finishes = [&world.store, &other, &world.store, &other]
        .map(|store| store.finish(&world.project, &granted.lease, &outcome, None, &POLICY));
    for finished in join_all(finishes).await {
        finished.unwrap();
    }
    assert_eq!(world.get(id).await.scan.evaluated, 1);
}

async fn another_outcome_for_the_same_run_is_refused(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    world.done(&granted).await.unwrap();
    let other = outcome(OutcomeKind::Permanent, "PROBE_CRASHED");
    let lost = "ABORTED/LEASE_LOST";
    assert_eq!(refused(world.finish(&granted.lease, &other).await), lost);
    // The right words with a wrong token are refused too.
    let mut forged = granted.lease.clone();
    forged.token = b"forged".to_vec();
    let same = outcome(OutcomeKind::Done, "");
    assert_eq!(refused(world.finish(&forged, &same).await), lost);
}

async fn a_zombie_cannot_finish(world: &World) {
    let id = world.create(1).await;
    let zombie = world.leased().await;
    let outcome = world.uploaded(&zombie).await.unwrap();
    world.age_leases().await;
    world.expire().await;
    let lost = "ABORTED/LEASE_LOST";
    assert_eq!(refused(world.finish(&zombie.lease, &outcome).await), lost);
    let granted = world.leased().await;
    assert_eq!(refused(world.finish(&zombie.lease, &outcome).await), lost);
    // Nor may the new run commit the zombie's file.
    let stolen = world.finish(&granted.lease, &outcome).await;
    assert_eq!(refused(stolen), "FAILED_PRECONDITION/ARTIFACT_NOT_UPLOADED");
    world.done(&granted).await.unwrap();
    assert_eq!(world.get(id).await.scan.evaluated, 1);
}

async fn done_needs_its_report_uploaded_by_this_run(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    let missing = "FAILED_PRECONDITION/ARTIFACT_NOT_UPLOADED";
    let done = outcome(OutcomeKind::Done, "");
    assert_eq!(refused(world.finish(&granted.lease, &done).await), missing);
    let stage = world
        .store
        .stage(&world.project, &granted.lease, ArtifactName::Report);
    let only_staged = Outcome {
        artifacts: vec![stage.await.unwrap().artifact.id],
        ..done.clone()
    };
    assert_eq!(
        refused(world.finish(&granted.lease, &only_staged).await),
        missing
    );
    let hitlog = world
        .upload(&granted.lease, ArtifactName::Hitlog, None)
        .await;
    let no_report = Outcome {
        artifacts: vec![hitlog.unwrap()],
        ..done
    };
    assert_eq!(
        refused(world.finish(&granted.lease, &no_report).await),
        missing
    );
    // The run is still held, and may do it right.
    world.done(&granted).await.unwrap();
}

async fn nothing_scored_is_not_evaluated(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    let empty = tally(probe(&granted), 0, 0);
    let report = world
        .upload(&granted.lease, ArtifactName::Report, Some(&empty))
        .await;
    let done = Outcome {
        artifacts: vec![report.unwrap()],
        ..outcome(OutcomeKind::Done, "")
    };
    world.finish(&granted.lease, &done).await.unwrap();
    world.finish(&granted.lease, &done).await.unwrap();
    let view = world.get(id).await;
    assert_eq!((view.scan.evaluated, view.scan.not_evaluated), (0, 1));
    assert_eq!(view.not_evaluated[0].reason, "NOTHING_EVALUATED");
}

async fn a_report_of_another_probe_counts_for_nothing(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    let foreign = tally("test.Probe1", 9, 0);
    let report = world
        .upload(&granted.lease, ArtifactName::Report, Some(&foreign))
        .await;
    let done = Outcome {
        artifacts: vec![report.unwrap()],
        ..outcome(OutcomeKind::Done, "")
    };
    world.finish(&granted.lease, &done).await.unwrap();
    let view = world.get(id).await;
    assert_eq!(view.not_evaluated[0].reason, "REPORT_MISMATCH");
    assert_eq!(view.scan.totals.passed, 0);
}

async fn a_retryable_failure_is_retried_with_backoff_until_used_up(world: &World) {
    let id = world.create(1).await;
    for failures in 1..=2 {
        let granted = world.leased().await;
        world
            .fail(&granted, OutcomeKind::Retryable, "PROBE_CRASHED")
            .await;
        // Its backoff is 10 s and more.
        assert_eq!(world.lease().await, None);
        assert_eq!(
            world
                .number("SELECT CAST(MAX(failures) AS BIGINT) FROM tasks")
                .await,
            failures
        );
        world.end_waits().await;
    }
    let last = world.leased().await;
    world
        .fail(&last, OutcomeKind::Retryable, "PROBE_CRASHED")
        .await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Failed);
    assert_eq!(view.not_evaluated[0].reason, "PROBE_CRASHED");
    assert_eq!(view.not_evaluated[0].message, "why: PROBE_CRASHED");
    let log = world.log(id).await;
    let retried = log.iter().filter(|logged| {
        matches!(&logged.event, Event::TaskRetried { reason, not_before, .. }
            if reason == "PROBE_CRASHED" && *not_before > logged.at)
    });
    assert_eq!(retried.count(), 2);
}

async fn a_permanent_failure_is_not_retried(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    world
        .fail(&granted, OutcomeKind::Permanent, "TARGET_UNAUTHORIZED")
        .await;
    let view = world.get(id).await;
    assert_eq!(view.scan.not_evaluated, 1);
    assert_eq!(view.not_evaluated[0].reason, "TARGET_UNAUTHORIZED");
    assert_ne!(world.leased().await.lease.task, granted.lease.task);
}

async fn a_released_task_is_leased_again_at_once(world: &World) {
    world.create(1).await;
    for _ in 0..5 {
        let granted = world.leased().await;
        world.fail(&granted, OutcomeKind::Released, "").await;
    }
    assert_eq!(
        world
            .number("SELECT CAST(MAX(failures) AS BIGINT) FROM tasks")
            .await,
        0
    );
    world.done(&world.leased().await).await.unwrap();
    let report = world.leased().await;
    assert!(matches!(report.work, Work::Report { .. }));
    // A report that is given back is made by another runner, also when it says "cancelled".
    world.fail(&report, OutcomeKind::Cancelled, "").await;
    assert!(matches!(world.leased().await.work, Work::Report { .. }));
}
