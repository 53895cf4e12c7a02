//! Step 12: what a scrub asks, and who runs a job.

use aegis_catalog::{
    domain::keeping::{Claimed, JobClaim, JobEnd, Step, Sweep},
    store::Garbage,
};
use serde_json::json;

use crate::{
    keeping::NOTHING,
    on_both,
    world::{World, refused},
};

on_both!(
    objects_without_a_row_are_noted_and_rows_without_an_object_found,
    one_replica_at_a_time_runs_a_job,
    a_position_of_other_work_is_refused,
);

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
