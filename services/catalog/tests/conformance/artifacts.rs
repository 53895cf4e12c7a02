//! Step 6: rows of files are fenced, and seen only once they are committed.

use aegis_catalog::domain::{
    artifact::{ArtifactName, ArtifactState, Checksum},
    task::OutcomeKind,
};

use crate::{
    on_both,
    world::{World, checksum, probe, refused, tally},
};

on_both!(
    the_same_name_gives_the_same_row,
    a_new_run_gets_another_key,
    completing_is_repeatable_with_the_same_checksum_only,
    a_lost_lease_can_do_nothing,
    parts_come_in_the_scans_order_with_their_hits,
    only_a_reports_lease_lists_parts,
);

async fn the_same_name_gives_the_same_row(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    let lease = &granted.lease;
    let stage = async || {
        let stage = world
            .store
            .stage(&world.project, lease, ArtifactName::Report);
        stage.await.unwrap()
    };
    let first = stage().await;
    assert!(!first.complete);
    assert_eq!(
        first.artifact.object_key,
        format!(
            "default/scans/{}/{}/{}/report.jsonl",
            lease.scan, lease.task, lease.epoch
        )
    );
    assert_eq!(stage().await, first);
    let tally = tally(probe(&granted), 1, 1);
    let id = world
        .upload(lease, ArtifactName::Report, Some(&tally))
        .await
        .unwrap();
    assert_eq!(id, first.artifact.id);
    let again = stage().await;
    assert!(again.complete);
    assert_eq!(again.artifact.state, ArtifactState::Uploaded);
    assert_eq!(again.artifact.tally, Some(tally));
}

async fn a_new_run_gets_another_key(world: &World) {
    world.create(1).await;
    let first = world.leased().await;
    let stage = world
        .store
        .stage(&world.project, &first.lease, ArtifactName::Report);
    let old = stage.await.unwrap().artifact;
    world.fail(&first, OutcomeKind::Released, "").await;
    let second = world.leased().await;
    let stage = world
        .store
        .stage(&world.project, &second.lease, ArtifactName::Report);
    let new = stage.await.unwrap().artifact;
    assert_ne!((new.id, &new.object_key), (old.id, &old.object_key));
    let (project, checksum) = (&world.project, checksum());
    let foreign = world
        .store
        .complete(project, &second.lease, old.id, &checksum, None);
    assert_eq!(refused(foreign.await), "NOT_FOUND/ARTIFACT_NOT_FOUND");
}

async fn completing_is_repeatable_with_the_same_checksum_only(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    let lease = &granted.lease;
    let tally = tally(probe(&granted), 1, 1);
    let stage = world
        .store
        .stage(&world.project, lease, ArtifactName::Report);
    let id = stage.await.unwrap().artifact.id;
    let complete = async |checksum: &Checksum, tally| {
        let complete = world
            .store
            .complete(&world.project, lease, id, checksum, tally);
        complete.await
    };
    let without_tally = complete(&checksum(), None).await;
    assert_eq!(refused(without_tally), "INVALID_ARGUMENT/INVALID_FIELD");
    let first = complete(&checksum(), Some(&tally)).await.unwrap();
    assert_eq!(complete(&checksum(), Some(&tally)).await.unwrap(), first);
    let other = Checksum {
        size: 43,
        ..checksum()
    };
    let mismatch = complete(&other, Some(&tally)).await;
    assert_eq!(refused(mismatch), "INVALID_ARGUMENT/CHECKSUM_MISMATCH");
}

async fn a_lost_lease_can_do_nothing(world: &World) {
    world.create(1).await;
    let zombie = world.leased().await;
    let stage = world
        .store
        .stage(&world.project, &zombie.lease, ArtifactName::Report);
    let id = stage.await.unwrap().artifact.id;
    world.age_leases().await;
    world.expire().await;
    let lost = "ABORTED/LEASE_LOST";
    let stage = world
        .store
        .stage(&world.project, &zombie.lease, ArtifactName::Hitlog);
    assert_eq!(refused(stage.await), lost);
    let (project, checksum) = (&world.project, checksum());
    let complete = world
        .store
        .complete(project, &zombie.lease, id, &checksum, None);
    assert_eq!(refused(complete.await), lost);
    let parts = world
        .store
        .report_parts(&world.project, &zombie.lease)
        .await;
    assert_eq!(refused(parts), lost);
}

async fn parts_come_in_the_scans_order_with_their_hits(world: &World) {
    let id = world.create(3).await;
    let mut leases = vec![world.leased().await, world.leased().await];
    world.done(&leases.remove(1)).await.unwrap();
    let third = world.leased().await;
    let with_hits = world
        .upload(&third.lease, ArtifactName::Hitlog, None)
        .await
        .unwrap();
    let mut outcome = world.uploaded(&third).await.unwrap();
    outcome.artifacts.push(with_hits);
    world.finish(&third.lease, &outcome).await.unwrap();
    world
        .fail(&leases[0], OutcomeKind::Permanent, "PROBE_CRASHED")
        .await;
    let report = world.leased().await;
    let parts = world
        .store
        .report_parts(&world.project, &report.lease)
        .await
        .unwrap();
    assert_eq!(
        (parts.scan, parts.revision, parts.eval_threshold),
        (id, 1, 0.5)
    );
    assert_eq!(parts.spec["target"]["type"], "test.Repeat");
    let found: Vec<_> = parts
        .parts
        .iter()
        .map(|part| {
            (
                part.probe.as_str(),
                part.hitlog.as_ref().map(|file| file.id),
            )
        })
        .collect();
    assert_eq!(
        found,
        [("test.Probe1", None), ("test.Probe2", Some(with_hits))]
    );
    assert!(parts.parts.iter().all(|part| part.report.revision == 0));
}

async fn only_a_reports_lease_lists_parts(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    let parts = world
        .store
        .report_parts(&world.project, &granted.lease)
        .await;
    assert_eq!(refused(parts), "INVALID_ARGUMENT/INVALID_FIELD");
}
