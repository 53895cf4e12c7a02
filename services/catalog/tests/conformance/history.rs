//! What was asked for and what came of it, in pages.

use aegis_catalog::domain::artifact::ArtifactName;
use aegis_catalog::domain::{
    history::{ScanFilter, ScanQuery},
    scan::ScanState,
    tally::Tally,
    task::{Outcome, OutcomeKind},
};

use aegis_catalog::store::ScanEdit;

use crate::{
    on_both,
    world::{World, new_scan, outcome, probe, refused, tally},
};

on_both!(
    pages_are_newest_first_and_complete,
    filters_choose_by_state_and_target,
    results_are_worst_first_in_pages,
    a_deleted_scan_is_hidden,
    a_running_scan_cannot_be_deleted,
    a_deleted_scan_comes_back_until_its_purge_time,
    name_and_labels_are_edited_by_one_at_a_time,
    the_file_of_the_database_opens_again,
);

async fn pages_are_newest_first_and_complete(world: &World) {
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(world.create(1).await);
    }
    // Some were made in the same millisecond.
    world
        .sql(
            "UPDATE scans SET created_at = created_at / 1000 * 1000",
            vec![],
        )
        .await;
    let query = ScanQuery::default();
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = world
            .store
            .list(&world.project, &query, after.as_ref(), 3)
            .await
            .unwrap();
        listed.extend(page.scans.iter().map(|view| view.scan.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    made.reverse();
    assert_eq!(listed, made);
}

async fn filters_choose_by_state_and_target(world: &World) {
    let mut other = new_scan(1);
    other.target_type = "openai.OpenAICompatible".to_owned();
    other.target_name = "llama".to_owned();
    let other = world.create_new(&other).await;
    let cancelled = world.create(1).await;
    world
        .store
        .cancel(&world.project, cancelled, "")
        .await
        .unwrap();
    let list = async |filter: ScanFilter| {
        let query = ScanQuery {
            filter,
            ..ScanQuery::default()
        };
        let page = world.store.list(&world.project, &query, None, 10).await;
        let ids = page.unwrap().scans.into_iter().map(|view| view.scan.id);
        ids.collect::<Vec<_>>()
    };
    let by_state = ScanFilter {
        states: vec![ScanState::Cancelled, ScanState::Failed],
        ..ScanFilter::default()
    };
    assert_eq!(list(by_state).await, [cancelled]);
    let by_type = ScanFilter {
        target_type: "openai.OpenAICompatible".to_owned(),
        ..ScanFilter::default()
    };
    assert_eq!(list(by_type.clone()).await, [other]);
    let by_name = ScanFilter {
        target_name: "llama".to_owned(),
        ..ScanFilter::default()
    };
    assert_eq!(list(by_name).await, [other]);
    let by_both = ScanFilter {
        states: vec![ScanState::Cancelled],
        ..by_type
    };
    assert!(list(by_both).await.is_empty());
}

async fn done_with(world: &World, tally: impl Fn(&str) -> Tally) {
    let granted = world.leased().await;
    let tally = tally(probe(&granted));
    let report = world
        .upload(&granted.lease, ArtifactName::Report, Some(&tally))
        .await;
    let done = Outcome {
        artifacts: vec![report.unwrap()],
        ..outcome(OutcomeKind::Done, "")
    };
    world.finish(&granted.lease, &done).await.unwrap();
}

async fn results_are_worst_first_in_pages(world: &World) {
    let id = world.create(4).await;
    for (passed, failed) in [(4, 0), (1, 3), (0, 2), (1, 3)] {
        done_with(world, |probe| {
            let mut tally = tally(probe, passed, failed);
            let mut none = tally.rows[0].clone();
            none.detector = "test.None".to_owned();
            (none.passed, none.failed, none.evaluated) = (0, 0, 0);
            tally.rows.push(none);
            tally
        })
        .await;
    }
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = world
            .store
            .results(&world.project, id, after.as_ref(), 3)
            .await
            .unwrap();
        for result in page.results {
            found.push((result.row.pass_rate(), result.row.probe));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let worst: Vec<_> = found
        .iter()
        .map(|(rate, probe)| (*rate, probe.as_str()))
        .collect();
    assert_eq!(
        worst[..4],
        [
            (Some(0.0), "test.Probe2"),
            (Some(0.25), "test.Probe1"),
            (Some(0.25), "test.Probe3"),
            (Some(1.0), "test.Probe0"),
        ]
    );
    assert_eq!(found.len(), 8);
    assert!(found[4..].iter().all(|(rate, _)| rate.is_none()));
}

async fn a_deleted_scan_is_hidden(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    let deleted = world.store.delete(&world.project, id).await.unwrap();
    let at = deleted.scan.deleted_at.unwrap();
    assert_eq!(deleted.scan.purge_at, Some(at + 7 * 86_400_000));
    // Again: the same answer.
    let again = world.store.delete(&world.project, id).await.unwrap();
    assert_eq!(again.scan.deleted_at, Some(at));
    let not_found = "NOT_FOUND/SCAN_NOT_FOUND";
    let project = &world.project;
    assert_eq!(refused(world.store.get(project, id).await), not_found);
    assert_eq!(
        refused(world.store.results(project, id, None, 1).await),
        not_found
    );
    assert_eq!(refused(world.store.watch(project, id, 0).await), not_found);
    assert_eq!(
        refused(world.store.cancel(project, id, "").await),
        not_found
    );
    assert_eq!(refused(world.store.retry(project, id).await), not_found);
    assert_eq!(
        refused(world.store.report_artifacts(project, id, 0).await),
        not_found
    );
    assert_eq!(
        refused(world.store.locate(project, id, "test.Probe0").await),
        not_found
    );
    let query = ScanQuery::default();
    let page = world.store.list(project, &query, None, 10).await.unwrap();
    assert!(page.scans.is_empty());
}

async fn a_running_scan_cannot_be_deleted(world: &World) {
    let id = world.create(1).await;
    let refusal = "FAILED_PRECONDITION/SCAN_NOT_TERMINAL";
    assert_eq!(
        refused(world.store.delete(&world.project, id).await),
        refusal
    );
    let missing = aegis_proto::ids::ScanId::generate();
    let deleted = world.store.delete(&world.project, missing).await;
    assert_eq!(refused(deleted), "NOT_FOUND/SCAN_NOT_FOUND");
}

async fn a_deleted_scan_comes_back_until_its_purge_time(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    let (store, project) = (&world.store, &world.project);
    let before = world.get(id).await;
    // One that is not deleted is returned as it is.
    assert_eq!(store.undelete(project, id).await.unwrap(), before);
    store.delete(project, id).await.unwrap();
    let deleted = ScanQuery {
        deleted: true,
        ..ScanQuery::default()
    };
    let page = store.list(project, &deleted, None, 10).await.unwrap();
    assert_eq!(page.scans[0].scan.id, id);
    assert_eq!(store.undelete(project, id).await.unwrap(), before);
    assert_eq!(world.get(id).await, before);
    store.delete(project, id).await.unwrap();
    world.sql("UPDATE scans SET purge_at = 1", vec![]).await;
    let not_found = "NOT_FOUND/SCAN_NOT_FOUND";
    assert_eq!(refused(store.undelete(project, id).await), not_found);
    let page = store.list(project, &deleted, None, 10).await.unwrap();
    assert!(page.scans.is_empty());
    let missing = aegis_proto::ids::ScanId::generate();
    assert_eq!(refused(store.undelete(project, missing).await), not_found);
}

async fn name_and_labels_are_edited_by_one_at_a_time(world: &World) {
    let id = world.create(1).await;
    let (store, project) = (&world.store, &world.project);
    let read = world.get(id).await;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let first = ScanEdit {
        display_name: Some("Nightly RUN".to_owned()),
        labels: None,
        etag: read.scan.etag(),
    };
    let edited = store.update(project, id, &first).await.unwrap();
    assert_eq!(edited.scan.labels, read.scan.labels);
    assert_ne!(edited.scan.etag(), read.scan.etag());
    let second = ScanEdit {
        labels: Some([label("team", "blue"), label("tier", "1")].into()),
        ..ScanEdit::default()
    };
    let refusal = ScanEdit {
        etag: read.scan.etag(),
        ..second.clone()
    };
    let refusal = store.update(project, id, &refusal).await;
    assert_eq!(refused(refusal), "ABORTED/SCAN_CHANGED");
    // Progress changes no etag.
    world.leased().await;
    let second = ScanEdit {
        etag: edited.scan.etag(),
        ..second
    };
    let edited = store.update(project, id, &second).await.unwrap();
    assert_eq!(edited.scan.display_name, "Nightly RUN");
    let found = async |filter: ScanFilter| {
        let query = ScanQuery {
            filter,
            ..ScanQuery::default()
        };
        let page = store.list(project, &query, None, 10).await.unwrap();
        page.scans.len()
    };
    let labelled = |key: &str, value: &str| ScanFilter {
        labels: [label(key, value)].into(),
        ..ScanFilter::default()
    };
    assert_eq!(found(labelled("team", "red")).await, 0);
    assert_eq!(found(labelled("team", "blue")).await, 1);
    assert_eq!(found(labelled("tier", "")).await, 1);
    let named = ScanFilter {
        text: "nightly run".to_owned(),
        ..ScanFilter::default()
    };
    assert_eq!(found(named).await, 1);
}

/// Off and on: leases, secrets and counts are as they were.
async fn the_file_of_the_database_opens_again(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    let before = world.get(id).await;
    let again = world.replica().await;
    assert_eq!(again.get(&world.project, id).await.unwrap(), before);
    assert_eq!(again.page_key(), world.store.page_key());
    let outcome = world.uploaded(&granted).await.unwrap();
    let finish = again.finish(
        &world.project,
        &granted.lease,
        &outcome,
        None,
        &crate::world::POLICY,
    );
    finish.await.unwrap();
    again.close().await.unwrap();
}
