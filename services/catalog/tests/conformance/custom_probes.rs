//! Custom probes: versions for good, etags, and the guard of those in use.

use aegis_catalog::{
    domain::{
        custom_probe::{ClassKind, CustomClass, CustomProbe, Validation, VersionState},
        keeping::Sweep,
        scan::CustomProbeVersion,
    },
    store::{CustomProbeRef, CustomProbeUpdate, NewCustomProbe},
};
use aegis_mesh::Result;
use aegis_proto::ids::ScanId;
use futures_util::future::join_all;

use crate::{
    checks::{check, done, source},
    keeping::purge,
    on_both,
    world::{World, new_scan, refused},
};

on_both!(
    versions_are_numbered_and_stay_as_they_were,
    numbers_go_on_when_a_name_is_taken_again,
    a_lost_update_is_refused,
    the_same_source_is_no_new_version,
    of_many_at_once_one_is_created,
    a_source_must_be_committed,
    one_in_use_is_not_deleted,
    a_scan_takes_only_what_is_valid,
    a_delete_and_a_scan_at_once_cannot_both_succeed,
    references_are_resolved_in_a_fixed_number_of_statements,
    lists_are_by_name_and_versions_newest_first,
    a_running_scan_reads_what_it_is_pinned_to_and_nothing_else,
    a_source_that_nothing_uses_is_collected,
);

/// The n-th source.
fn sha(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

async fn create(world: &World, name: &str, n: u8) -> Result<CustomProbe> {
    source(world, &sha(n)).await;
    let new = NewCustomProbe {
        name: name.to_owned(),
        description: "leaks".to_owned(),
        sha256: sha(n),
        created_by: "local".to_owned(),
    };
    world.store.create_custom_probe(&world.project, &new).await
}

async fn update(world: &World, before: &CustomProbe, n: u8) -> Result<CustomProbe> {
    source(world, &sha(n)).await;
    let update = CustomProbeUpdate {
        sha256: Some(sha(n)),
        etag: before.etag(),
        updated_by: "local".to_owned(),
        ..CustomProbeUpdate::default()
    };
    let update = world
        .store
        .update_custom_probe(&world.project, &before.name, &update);
    update.await
}

async fn delete(world: &World, name: &str) -> Result<()> {
    let delete = world.store.delete_custom_probe(&world.project, name, "");
    delete.await
}

async fn get(world: &World, name: &str, version: i32) -> Result<CustomProbe> {
    let get = world.store.custom_probe(&world.project, name, version);
    get.await
}

/// A custom probe whose version is valid.
async fn valid(world: &World, name: &str, n: u8) -> CustomProbe {
    create(world, name, n).await.unwrap();
    done(world, &check(world).await, found(name)).await.unwrap();
    get(world, name, 0).await.unwrap()
}

/// A module with a probe.
pub(crate) fn found(module: &str) -> Validation {
    let class = CustomClass {
        kind: ClassKind::Probe,
        name: format!("{module}.Leak"),
        description: "Leaks.".to_owned(),
        goal: String::new(),
        tags: vec!["owasp:llm01".to_owned()],
        lang: "en".to_owned(),
        tier: 1,
        active: true,
        primary_detector: "always.Pass".to_owned(),
        extended_detectors: Vec::new(),
        prompts: 3,
    };
    Validation {
        valid: true,
        problems: Vec::new(),
        classes: vec![class],
        garak_version: "0.17.1".to_owned(),
    }
}

fn pin(probe: &CustomProbe) -> CustomProbeVersion {
    CustomProbeVersion {
        name: probe.name.clone(),
        version: probe.version,
        sha256: probe.sha256.clone(),
    }
}

async fn scan_with(world: &World, pinned: &[CustomProbeVersion]) -> Result<ScanId> {
    let mut new = new_scan(1);
    new.custom_probes = pinned.to_vec();
    let view = world.store.create(&world.project, &new).await?;
    Ok(view.scan.id)
}

async fn versions_are_numbered_and_stay_as_they_were(world: &World) {
    let first = create(world, "acme", 1).await.unwrap();
    assert_eq!((first.version, first.state), (1, VersionState::Checking));
    assert_eq!(first.validation, None);
    done(world, &check(world).await, found("acme"))
        .await
        .unwrap();
    let checked = get(world, "acme", 0).await.unwrap();
    assert_eq!(checked.state, VersionState::Valid);
    assert_eq!(checked.validation, Some(found("acme")));
    // A check is no edit.
    assert_eq!(checked.etag(), first.etag());
    let second = update(world, &checked, 2).await.unwrap();
    assert_eq!((second.version, second.state), (2, VersionState::Checking));
    let old = get(world, "acme", 1).await.unwrap();
    assert_eq!((old.sha256, old.state), (sha(1), VersionState::Valid));
    done(
        world,
        &check(world).await,
        Validation::failed("NO_PROBE_CLASS", "none"),
    )
    .await
    .unwrap();
    let second = get(world, "acme", 2).await.unwrap();
    assert_eq!(second.state, VersionState::Invalid);
    assert_eq!(
        second.validation.unwrap().problems[0].reason,
        "NO_PROBE_CLASS"
    );
    assert_eq!(
        refused(get(world, "acme", 3).await),
        "NOT_FOUND/CUSTOM_PROBE_NOT_FOUND"
    );
}

async fn numbers_go_on_when_a_name_is_taken_again(world: &World) {
    let first = valid(world, "acme", 1).await;
    delete(world, "acme").await.unwrap();
    assert_eq!(
        refused(get(world, "acme", 0).await),
        "NOT_FOUND/CUSTOM_PROBE_NOT_FOUND"
    );
    assert_eq!(
        refused(get(world, "acme", 1).await),
        "NOT_FOUND/CUSTOM_PROBE_NOT_FOUND"
    );
    assert_eq!(
        refused(delete(world, "acme").await),
        "NOT_FOUND/CUSTOM_PROBE_NOT_FOUND"
    );
    assert_eq!(
        refused(update(world, &first, 2).await),
        "NOT_FOUND/CUSTOM_PROBE_NOT_FOUND"
    );
    let again = create(world, "acme", 2).await.unwrap();
    assert_eq!(again.version, 2);
    assert_ne!(again.etag(), first.etag());
    // The old life is not seen, nor taken for a valid version.
    assert_eq!(
        refused(get(world, "acme", 1).await),
        "NOT_FOUND/CUSTOM_PROBE_NOT_FOUND"
    );
    let listed = world
        .store
        .valid_custom_probes(&world.project, "", 10)
        .await;
    assert_eq!(listed.unwrap(), []);
    let refusal = scan_with(world, &[pin(&first)]).await;
    assert_eq!(
        refused(refusal),
        "FAILED_PRECONDITION/CUSTOM_PROBE_NOT_VALID"
    );
}

async fn a_lost_update_is_refused(world: &World) {
    let first = create(world, "acme", 1).await.unwrap();
    let updates = join_all([2, 3, 4].map(|n| update(world, &first, n))).await;
    let won = updates.iter().filter(|updated| updated.is_ok()).count();
    assert_eq!(won, 1);
    for lost in updates.into_iter().filter(Result::is_err) {
        assert_eq!(refused(lost), "ABORTED/CUSTOM_PROBE_CHANGED");
    }
    let delete = world
        .store
        .delete_custom_probe(&world.project, "acme", &first.etag())
        .await;
    assert_eq!(refused(delete), "ABORTED/CUSTOM_PROBE_CHANGED");
    assert_eq!(get(world, "acme", 0).await.unwrap().version, 2);
}

async fn the_same_source_is_no_new_version(world: &World) {
    let first = valid(world, "acme", 1).await;
    let same = update(world, &first, 1).await.unwrap();
    assert_eq!(same, first);
    let described = CustomProbeUpdate {
        description: Some("leaks more".to_owned()),
        etag: first.etag(),
        ..CustomProbeUpdate::default()
    };
    let described = world
        .store
        .update_custom_probe(&world.project, "acme", &described)
        .await
        .unwrap();
    assert_eq!(
        (described.version, described.state),
        (1, VersionState::Valid)
    );
    assert_eq!(described.description, "leaks more");
    assert_ne!(described.etag(), first.etag());
    // One that is invalid is tried out again: the runner may have been to blame.
    let second = update(world, &described, 2).await.unwrap();
    done(world, &check(world).await, Validation::failed("X", "x"))
        .await
        .unwrap();
    assert_eq!(update(world, &second, 2).await.unwrap().version, 3);
}

async fn of_many_at_once_one_is_created(world: &World) {
    let made = join_all([1, 2, 3, 4].map(|n| create(world, "acme", n))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    for lost in made.into_iter().filter(Result::is_err) {
        assert_eq!(refused(lost), "ALREADY_EXISTS/CUSTOM_PROBE_EXISTS");
    }
}

async fn a_source_must_be_committed(world: &World) {
    let staged = world.store.stage_source(&world.project, &sha(9), 10).await;
    let staged = staged.unwrap();
    let folder = format!("default/sources/{}/", sha(9));
    assert!(staged.object_key.starts_with(&folder), "{staged:?}");
    let again = world.store.stage_source(&world.project, &sha(9), 10).await;
    assert_eq!(again.unwrap(), staged);
    let new = NewCustomProbe {
        name: "acme".to_owned(),
        sha256: sha(9),
        ..NewCustomProbe::default()
    };
    for _ in 0..2 {
        let made = world.store.create_custom_probe(&world.project, &new).await;
        assert_eq!(refused(made), "NOT_FOUND/SOURCE_NOT_FOUND");
    }
    let read = world.store.source(&world.project, &sha(9)).await;
    assert_eq!(refused(read), "NOT_FOUND/SOURCE_NOT_FOUND");
    let commit = world.store.commit_source(&world.project, &sha(8)).await;
    assert_eq!(refused(commit), "NOT_FOUND/SOURCE_NOT_FOUND");
    world
        .store
        .commit_source(&world.project, &sha(9))
        .await
        .unwrap();
    world
        .store
        .commit_source(&world.project, &sha(9))
        .await
        .unwrap();
    let made = world.store.create_custom_probe(&world.project, &new).await;
    assert_eq!(made.unwrap().version, 1);
}

async fn one_in_use_is_not_deleted(world: &World) {
    let probe = valid(world, "acme", 1).await;
    let other = valid(world, "other", 2).await;
    let scan = scan_with(world, &[pin(&probe)]).await.unwrap();
    let refusal = delete(world, "acme").await.unwrap_err();
    assert_eq!(refusal.reason(), "CUSTOM_PROBE_IN_USE");
    assert!(refusal.message().contains(&scan.to_string()), "{refusal}");
    // A new version is no harm: the scan keeps its own.
    update(world, &probe, 3).await.unwrap();
    done(world, &check(world).await, found("acme"))
        .await
        .unwrap();
    assert_eq!(world.get(scan).await.scan.custom_probes, [pin(&probe)]);
    assert!(delete(world, &other.name).await.is_ok());
    world.work_off().await;
    delete(world, "acme").await.unwrap();
    // What was pinned stays readable: a retry runs with it.
    assert!(world.store.source(&world.project, &sha(1)).await.is_ok());
}

async fn a_scan_takes_only_what_is_valid(world: &World) {
    let probe = valid(world, "acme", 1).await;
    let unchecked = update(world, &probe, 2).await.unwrap();
    let mut other_source = pin(&probe);
    other_source.sha256 = sha(7);
    let mut missing = pin(&probe);
    missing.version = 9;
    for wrong in [pin(&unchecked), other_source, missing] {
        let refusal = scan_with(world, &[pin(&probe), wrong.clone()]).await;
        assert_eq!(
            refused(refusal),
            "FAILED_PRECONDITION/CUSTOM_PROBE_NOT_VALID",
            "{wrong:?}"
        );
    }
    assert!(scan_with(world, &[pin(&probe)]).await.is_ok());
}

async fn a_delete_and_a_scan_at_once_cannot_both_succeed(world: &World) {
    for n in 1..=8 {
        let name = format!("acme{n}");
        let probe = valid(world, &name, n).await;
        let pinned = [pin(&probe)];
        let (scanned, deleted) = tokio::join!(scan_with(world, &pinned), delete(world, &name));
        match (scanned, deleted) {
            (Ok(_), refusal @ Err(_)) => {
                assert_eq!(refused(refusal), "FAILED_PRECONDITION/CUSTOM_PROBE_IN_USE");
            }
            (refusal @ Err(_), Ok(())) => {
                assert_eq!(
                    refused(refusal),
                    "FAILED_PRECONDITION/CUSTOM_PROBE_NOT_VALID"
                );
            }
            other => panic!("one wins, the other does not: {other:?}"),
        }
    }
}

async fn references_are_resolved_in_a_fixed_number_of_statements(world: &World) {
    let first = valid(world, "acme", 1).await;
    update(world, &first, 2).await.unwrap();
    create(world, "fresh", 3).await.unwrap();
    let reference = |name: &str, version| CustomProbeRef {
        name: name.to_owned(),
        version,
    };
    let references = [
        reference("acme", None),
        reference("acme", Some(2)),
        reference("fresh", None),
        reference("gone", None),
        reference("acme", Some(7)),
    ];
    let before = world.store.statements();
    let resolved = world
        .store
        .resolve_custom_probes(&world.project, &references)
        .await
        .unwrap();
    assert!(world.store.statements() - before <= 5);
    let seen: Vec<_> = resolved
        .iter()
        .map(|probe| probe.as_ref().map(|probe| (probe.version, probe.state)))
        .collect();
    assert_eq!(
        seen,
        [
            Some((1, VersionState::Valid)),
            Some((2, VersionState::Checking)),
            Some((1, VersionState::Checking)),
            None,
            None,
        ]
    );
}

async fn lists_are_by_name_and_versions_newest_first(world: &World) {
    for (n, name) in ["b", "c", "a"].into_iter().enumerate() {
        valid(world, name, n as u8 + 1).await;
    }
    let probe = get(world, "b", 0).await.unwrap();
    let second = update(world, &probe, 9).await.unwrap();
    let names = |probes: Vec<CustomProbe>| -> Vec<(String, i32)> {
        probes.into_iter().map(|p| (p.name, p.version)).collect()
    };
    let of = |name: &str, version| (name.to_owned(), version);
    let store = &world.store;
    let page = store.custom_probes(&world.project, "a", 10).await.unwrap();
    assert_eq!(names(page), [of("b", 2), of("c", 1)]);
    let page = store
        .valid_custom_probes(&world.project, "", 2)
        .await
        .unwrap();
    assert_eq!(names(page), [of("a", 1), of("b", 1)]);
    let versions = store.custom_probe_versions(&world.project, "b", None, 10);
    assert_eq!(names(versions.await.unwrap()), [of("b", 2), of("b", 1)]);
    let rest = store.custom_probe_versions(&world.project, "b", Some(second.version), 10);
    assert_eq!(names(rest.await.unwrap()), [of("b", 1)]);
    let none = store.custom_probe_versions(&world.project, "x", None, 10);
    assert_eq!(refused(none.await), "NOT_FOUND/CUSTOM_PROBE_NOT_FOUND");
}

async fn a_running_scan_reads_what_it_is_pinned_to_and_nothing_else(world: &World) {
    let probe = valid(world, "acme", 1).await;
    valid(world, "other", 2).await;
    scan_with(world, &[pin(&probe)]).await.unwrap();
    let granted = world.leased().await;
    let aegis_catalog::store::Work::Probe(grant) = &granted.work else {
        panic!("a probe");
    };
    assert_eq!(grant.custom_probes, [pin(&probe)]);
    let read = async |sha256: String| {
        let read = world
            .store
            .source_of_scan(&world.project, &granted.lease, &sha256);
        read.await
    };
    assert_eq!(read(sha(1)).await.unwrap().sha256, sha(1));
    assert_eq!(
        refused(read(sha(2)).await),
        "PERMISSION_DENIED/SOURCE_NOT_LEASED"
    );
    world.done(&granted).await.unwrap();
    assert_eq!(refused(read(sha(1)).await), "ABORTED/LEASE_LOST");
}

async fn a_source_that_nothing_uses_is_collected(world: &World) {
    let unused = Sweep::Sources(0);
    let marked = async || {
        // Announced before now.
        world.sql("UPDATE sources SET touched_at = 1", vec![]).await;
        world.sweep(&unused).await.counted("marked")
    };
    let probe = valid(world, "acme", 1).await;
    assert_eq!(marked().await, 0);
    let mut new = new_scan(1);
    new.custom_probes = vec![CustomProbeVersion {
        name: "acme".to_owned(),
        version: probe.version,
        sha256: sha(1),
    }];
    let scan = world.create_new(&new).await;
    world.store.cancel(&world.project, scan, "").await.unwrap();
    delete(world, "acme").await.unwrap();
    // The scan is pinned to it, although it has ended.
    assert_eq!(marked().await, 0);
    purge(world, scan).await;
    world.sql("UPDATE sources SET touched_at = 1", vec![]).await;
    assert_eq!(world.would_sweep(&unused).await.counted("marked"), 1);
    // Announced a moment ago: somebody is about to use it.
    source(world, &sha(1)).await;
    assert_eq!(
        world
            .sweep(&Sweep::Sources(3_600_000))
            .await
            .counted("marked"),
        0
    );
    assert_eq!(marked().await, 1);
    for table in ["sources", "custom_probe_versions", "checks"] {
        let number = world.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(number, 0, "{table}");
    }
    assert_eq!(world.number("SELECT COUNT(*) FROM garbage").await, 1);
    // The same source again is another object, and the name goes on counting.
    assert_eq!(valid(world, "acme", 1).await.version, probe.version + 1);
    let same = "SELECT COUNT(*) FROM sources s JOIN garbage g ON g.object_key = s.object_key";
    assert_eq!(world.number(same).await, 0);
}
