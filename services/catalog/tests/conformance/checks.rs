//! Checks are leased as tasks are: one runner at a time, fenced, repeated, given up.

use std::{collections::BTreeSet, time::Duration};

use aegis_catalog::{
    domain::{
        check::{CheckOutcome, CheckState},
        custom_probe::{Validation, VersionState},
        keeping::Sweep,
        task::{Directive, OutcomeKind},
    },
    store::{CheckGrant, CheckStatus, LeaseCall, NewCustomProbe, PluginCatalogue},
};
use aegis_mesh::Result;
use aegis_proto::ids::CheckId;
use futures_util::future::join_all;
use sha2::{Digest, Sha256};

use crate::{
    custom_probes::found,
    on_both,
    world::{POLICY, World, call, outcome, refused},
};

on_both!(
    only_a_runner_with_a_published_catalogue_gets_one,
    a_repeated_poll_gets_the_same_check,
    two_polls_with_one_request_id_at_once_get_one_check,
    each_check_is_leased_once,
    a_check_comes_before_any_probe,
    an_older_epoch_is_fenced_off,
    the_same_finish_is_accepted_again,
    a_report_renews_and_nothing_stops_a_check,
    a_lost_runner_is_followed_by_another_but_not_for_ever,
    failures_are_given_up_and_releases_are_not_counted,
    what_a_runner_calls_permanent_is_over_at_once,
    done_without_a_validation_is_refused,
    a_lease_reads_its_own_source_only,
    a_trial_is_waited_for,
    the_same_trial_is_one_check,
    nobody_takes_a_trial_that_is_given_up,
    no_more_may_wait_than_the_bound,
);

const CATALOGUE_JSON: &[u8] = b"{}";

/// A committed source.
pub(crate) async fn source(world: &World, sha256: &str) {
    let staged = world.store.stage_source(&world.project, sha256, 100).await;
    staged.unwrap();
    world
        .store
        .commit_source(&world.project, sha256)
        .await
        .unwrap();
}

async fn publish(world: &World) -> String {
    let catalogue = PluginCatalogue {
        sha256: hex::encode(Sha256::digest(CATALOGUE_JSON)),
        garak_version: "0.17.1".to_owned(),
        json: CATALOGUE_JSON.to_vec(),
        allowance: serde_json::json!({}),
    };
    let put = world.store.put_catalogue(&world.project, &catalogue).await;
    put.unwrap();
    catalogue.sha256
}

async fn poll(world: &World) -> LeaseCall {
    LeaseCall {
        plugin_catalogue: publish(world).await,
        ..call()
    }
}

async fn lease(world: &World, poll: &LeaseCall) -> Option<CheckGrant> {
    let leased = world.lease_any(poll).await?;
    Some(leased.check().expect("a check, no task"))
}

/// Leases the next check.
pub(crate) async fn check(world: &World) -> CheckGrant {
    let poll = poll(world).await;
    lease(world, &poll).await.expect("a check to lease")
}

fn sent(kind: OutcomeKind, found: Option<Validation>) -> CheckOutcome {
    let reason = if found.is_some() { "" } else { "WHY" };
    CheckOutcome {
        outcome: outcome(kind, reason),
        validation: found,
    }
}

async fn finish(world: &World, grant: &CheckGrant, sent: &CheckOutcome) -> Result<()> {
    let finish = world
        .store
        .finish_check(&world.project, &grant.lease, sent, &POLICY);
    finish.await
}

/// Finishes a check with what it found.
pub(crate) async fn done(world: &World, grant: &CheckGrant, found: Validation) -> Result<()> {
    finish(world, grant, &sent(OutcomeKind::Done, Some(found))).await
}

/// A custom probe whose check waits.
pub(crate) async fn create(world: &World, name: &str) {
    let sha256 = "5".repeat(64);
    source(world, &sha256).await;
    let new = NewCustomProbe {
        name: name.to_owned(),
        sha256,
        ..NewCustomProbe::default()
    };
    let made = world.store.create_custom_probe(&world.project, &new).await;
    made.unwrap();
}

async fn state(world: &World, name: &str) -> (VersionState, Vec<String>) {
    let probe = world.store.custom_probe(&world.project, name, 0).await;
    let probe = probe.unwrap();
    let problems = probe.validation.unwrap_or_default().problems;
    let reasons = problems.into_iter().map(|problem| problem.reason);
    (probe.state, reasons.collect())
}

async fn age(world: &World) {
    let sql = "UPDATE checks SET lease_expires_at = 1 WHERE state = 'RUNNING'";
    world.sql(sql, vec![]).await;
}

async fn end_waits(world: &World) {
    world.sql("UPDATE checks SET not_before = 0", vec![]).await;
}

async fn trial(world: &World, name: &str) -> Result<CheckId> {
    let sha256 = "6".repeat(64);
    source(world, &sha256).await;
    let minute = Duration::from_secs(60);
    let queue = world
        .store
        .queue_check(&world.project, name, &sha256, minute);
    queue.await
}

async fn status(world: &World, id: CheckId) -> CheckStatus {
    let status = world.store.await_check(&world.project, id, Duration::ZERO);
    status.await.unwrap()
}

async fn only_a_runner_with_a_published_catalogue_gets_one(world: &World) {
    create(world, "acme").await;
    assert_eq!(world.lease_any(&call()).await, None);
    let grant = check(world).await;
    assert_eq!(
        (grant.name.as_str(), grant.sha256),
        ("acme", "5".repeat(64))
    );
    assert_eq!(grant.lease.epoch.0, 1);
    assert_eq!(lease(world, &poll(world).await).await, None);
}

async fn a_repeated_poll_gets_the_same_check(world: &World) {
    create(world, "acme").await;
    create(world, "other").await;
    let poll = poll(world).await;
    let first = lease(world, &poll).await.unwrap();
    age(world).await;
    let second = lease(world, &poll).await.unwrap();
    assert_eq!(first, second);
    // It is a fresh answer, so its time begins again.
    assert_eq!(world.expire().await, 0);
    assert_ne!(check(world).await.lease.check, first.lease.check);
    done(world, &first, found("acme")).await.unwrap();
    assert_eq!(lease(world, &poll).await, None);
}

async fn two_polls_with_one_request_id_at_once_get_one_check(world: &World) {
    for n in 0..4 {
        create(world, &format!("acme{n}")).await;
    }
    let poll = poll(world).await;
    let other = world.replica().await;
    let polls = [&world.store, &other, &world.store, &other]
        .map(|store| store.lease(&world.project, &poll, Duration::ZERO));
    let checks: BTreeSet<_> = join_all(polls)
        .await
        .into_iter()
        .map(|leased| leased.unwrap().unwrap().check().unwrap().lease.check)
        .collect();
    assert_eq!(checks.len(), 1);
}

async fn each_check_is_leased_once(world: &World) {
    for n in 0..20 {
        create(world, &format!("acme{n}")).await;
    }
    let catalogue = publish(world).await;
    let other = world.replica().await;
    let workers = (0..6).map(|n| {
        let store = if n % 2 == 0 { &world.store } else { &other };
        let catalogue = catalogue.clone();
        async move {
            let mut leased = Vec::new();
            loop {
                let poll = LeaseCall {
                    plugin_catalogue: catalogue.clone(),
                    ..call()
                };
                let lease = store.lease(&world.project, &poll, Duration::ZERO);
                let Some(grant) = lease.await.unwrap() else {
                    break leased;
                };
                leased.push(grant.check().unwrap().lease.check.to_string());
            }
        }
    });
    let leased: Vec<_> = join_all(workers).await.into_iter().flatten().collect();
    assert_eq!(leased.len(), 20);
    assert_eq!(leased.iter().collect::<BTreeSet<_>>().len(), 20);
}

async fn a_check_comes_before_any_probe(world: &World) {
    let mut new = crate::world::new_scan(1);
    new.plugin_catalogue = publish(world).await;
    world.create_new(&new).await;
    create(world, "acme").await;
    assert_eq!(check(world).await.name, "acme");
    let leased = world.lease_any(&poll(world).await).await.unwrap();
    assert!(leased.task().is_some());
}

async fn an_older_epoch_is_fenced_off(world: &World) {
    create(world, "acme").await;
    let lost = check(world).await;
    age(world).await;
    assert_eq!(world.expire().await, 1);
    let store = &world.store;
    let report = store
        .report_check(&world.project, &lost.lease, 60_000)
        .await;
    assert_eq!(refused(report), "ABORTED/LEASE_LOST");
    let again = check(world).await;
    assert_eq!(again.lease.check, lost.lease.check);
    assert_eq!(again.lease.epoch.0, 2);
    assert_ne!(again.lease.token, lost.lease.token);
    let finish = done(world, &lost, found("acme")).await;
    assert_eq!(refused(finish), "ABORTED/LEASE_LOST");
    // Nor does the epoch alone do, without its token.
    let mut forged = again.clone();
    forged.lease.token = lost.lease.token;
    assert_eq!(
        refused(done(world, &forged, found("acme")).await),
        "ABORTED/LEASE_LOST"
    );
    let wait = store.await_check_directive(&world.project, &forged.lease, Duration::ZERO);
    assert_eq!(refused(wait.await), "ABORTED/LEASE_LOST");
    assert_eq!(state(world, "acme").await.0, VersionState::Checking);
    done(world, &again, found("acme")).await.unwrap();
    assert_eq!(state(world, "acme").await.0, VersionState::Valid);
}

async fn the_same_finish_is_accepted_again(world: &World) {
    create(world, "acme").await;
    let first = check(world).await;
    let failed = sent(OutcomeKind::Retryable, None);
    finish(world, &first, &failed).await.unwrap();
    finish(world, &first, &failed).await.unwrap();
    let failures = "SELECT CAST(MAX(failures) AS BIGINT) FROM checks";
    assert_eq!(world.number(failures).await, 1);
    end_waits(world).await;
    let second = check(world).await;
    // Also while another run is under way.
    finish(world, &first, &failed).await.unwrap();
    done(world, &second, found("acme")).await.unwrap();
    done(world, &second, found("acme")).await.unwrap();
    let other = done(world, &second, Validation::failed("X", "x")).await;
    assert_eq!(refused(other), "ABORTED/LEASE_LOST");
    assert_eq!(state(world, "acme").await.0, VersionState::Valid);
}

async fn a_report_renews_and_nothing_stops_a_check(world: &World) {
    create(world, "acme").await;
    let grant = check(world).await;
    age(world).await;
    let store = &world.store;
    let report = store
        .report_check(&world.project, &grant.lease, 60_000)
        .await;
    report.unwrap();
    assert_eq!(world.expire().await, 0);
    let wait = store.await_check_directive(&world.project, &grant.lease, Duration::ZERO);
    assert_eq!(wait.await.unwrap(), Directive::Continue);
}

async fn a_lost_runner_is_followed_by_another_but_not_for_ever(world: &World) {
    create(world, "acme").await;
    for failures in 1..=3 {
        let grant = check(world).await;
        assert_eq!(grant.lease.epoch.0, failures);
        assert_eq!(world.expire().await, 0);
        age(world).await;
        assert_eq!(world.expire().await, 1);
        if failures == 2 {
            // At once the first time, with backoff after.
            assert_eq!(lease(world, &poll(world).await).await, None);
            end_waits(world).await;
        }
    }
    let crashed = vec!["CHECK_CRASHED".to_owned()];
    assert_eq!(state(world, "acme").await, (VersionState::Invalid, crashed));
    assert_eq!(lease(world, &poll(world).await).await, None);
}

async fn failures_are_given_up_and_releases_are_not_counted(world: &World) {
    create(world, "acme").await;
    for _ in 0..5 {
        let released = sent(OutcomeKind::Released, None);
        finish(world, &check(world).await, &released).await.unwrap();
    }
    for kind in [
        OutcomeKind::Retryable,
        OutcomeKind::Backpressure,
        OutcomeKind::Retryable,
    ] {
        assert_eq!(state(world, "acme").await.0, VersionState::Checking);
        let failed = sent(kind, None);
        finish(world, &check(world).await, &failed).await.unwrap();
        end_waits(world).await;
    }
    let crashed = vec!["CHECK_CRASHED".to_owned()];
    assert_eq!(state(world, "acme").await, (VersionState::Invalid, crashed));
}

async fn what_a_runner_calls_permanent_is_over_at_once(world: &World) {
    create(world, "acme").await;
    let permanent = sent(OutcomeKind::Permanent, None);
    finish(world, &check(world).await, &permanent)
        .await
        .unwrap();
    let why = vec!["WHY".to_owned()];
    assert_eq!(state(world, "acme").await, (VersionState::Invalid, why));
}

async fn done_without_a_validation_is_refused(world: &World) {
    create(world, "acme").await;
    let grant = check(world).await;
    let empty = sent(OutcomeKind::Done, None);
    let refusal = finish(world, &grant, &empty).await;
    assert_eq!(refused(refusal), "INVALID_ARGUMENT/INVALID_FIELD");
    // Classes decide with it: a valid module without any is none.
    let valid = Validation {
        valid: true,
        ..Validation::default()
    };
    done(world, &grant, valid).await.unwrap();
    assert_eq!(state(world, "acme").await.0, VersionState::Invalid);
}

async fn a_lease_reads_its_own_source_only(world: &World) {
    create(world, "acme").await;
    source(world, &"7".repeat(64)).await;
    let grant = check(world).await;
    let read = async |sha256: String| {
        let read = world
            .store
            .source_of_check(&world.project, &grant.lease, &sha256);
        read.await
    };
    assert_eq!(read("5".repeat(64)).await.unwrap().size, 100);
    let other = read("7".repeat(64)).await;
    assert_eq!(refused(other), "PERMISSION_DENIED/SOURCE_NOT_LEASED");
    done(world, &grant, found("acme")).await.unwrap();
    assert_eq!(refused(read("5".repeat(64)).await), "ABORTED/LEASE_LOST");
}

async fn a_trial_is_waited_for(world: &World) {
    let id = trial(world, "acme").await.unwrap();
    assert_eq!(status(world, id).await.state, CheckState::Queued);
    let long = Duration::from_secs(20);
    let waiting = world.store.await_check(&world.project, id, long);
    let working = async {
        let grant = check(world).await;
        assert_eq!(status(world, id).await.state, CheckState::Running);
        done(world, &grant, found("acme")).await.unwrap();
    };
    let (ended, ()) = tokio::join!(waiting, working);
    let ended = ended.unwrap();
    assert_eq!(ended.state, CheckState::Done);
    assert_eq!(ended.validation, Some(found("acme")));
    // It left nothing but its answer, and that is forgotten in time.
    assert_eq!(world.number("SELECT COUNT(*) FROM custom_probes").await, 0);
    world.expire().await;
    assert_eq!(status(world, id).await.state, CheckState::Done);
    assert_eq!(world.sweep(&Sweep::Trials).await.counted("trials"), 0);
    world.sql("UPDATE checks SET give_up_at = 1", vec![]).await;
    assert_eq!(world.sweep(&Sweep::Trials).await.counted("trials"), 1);
    let gone = world.store.await_check(&world.project, id, Duration::ZERO);
    assert_eq!(refused(gone.await), "NOT_FOUND/CHECK_NOT_FOUND");
}

async fn the_same_trial_is_one_check(world: &World) {
    let first = trial(world, "acme").await.unwrap();
    assert_eq!(trial(world, "acme").await.unwrap(), first);
    assert_ne!(trial(world, "other").await.unwrap(), first);
    let grant = check(world).await;
    assert_eq!(trial(world, "acme").await.unwrap(), first);
    done(world, &grant, found("acme")).await.unwrap();
    assert_ne!(trial(world, "acme").await.unwrap(), first);
}

async fn nobody_takes_a_trial_that_is_given_up(world: &World) {
    let id = trial(world, "acme").await.unwrap();
    let past = "UPDATE checks SET give_up_at = 1";
    world.sql(past, vec![]).await;
    assert_eq!(lease(world, &poll(world).await).await, None);
    assert_eq!(status(world, id).await.state, CheckState::Queued);
    // Somebody else wants to know.
    assert_eq!(trial(world, "acme").await.unwrap(), id);
    assert!(lease(world, &poll(world).await).await.is_some());
}

async fn no_more_may_wait_than_the_bound(world: &World) {
    create(world, "acme").await;
    let fill = "INSERT INTO checks
        (project_id, id, name, sha256, state, epoch, failures, not_before, give_up_at, created_at)
        VALUES ('default', $1, $2, $3, 'QUEUED', 0, 0, 0, 1, 0)";
    for n in 0..499 {
        let id = uuid::Uuid::now_v7();
        let values = vec![id.into(), format!("n{n}").into(), "5".repeat(64).into()];
        world.sql(fill, values).await;
    }
    let refusal = trial(world, "more").await;
    assert_eq!(refused(refusal), "RESOURCE_EXHAUSTED/TOO_MANY_CHECKS");
}
