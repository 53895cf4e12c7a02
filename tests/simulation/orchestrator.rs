//! An orchestrator without its catalog.

use std::time::Duration;

use aegis_mesh::{Code, Error};
use aegis_proto::internal::task::v1::{self as pb, task_service_client::TaskServiceClient};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    catalog::Catalog,
    fault::{Fault, millis},
    world::{add_catalog, add_orchestrator, client, for_each_seed, local},
};

const TO_CATALOG: (&str, &str) = ("orchestrator", "catalog");

type Tasks = TaskServiceClient<aegis_mesh::MeshChannel>;

async fn lease(mut tasks: Tasks) -> Result<pb::Lease, Error> {
    let request = pb::LeaseTaskRequest {
        runner_id: "runner".to_owned(),
        request_id: Uuid::new_v4().to_string(),
        plugin_catalogue: "0".repeat(64),
        slots: 1,
        wait: Some(prost_types::Duration::default()),
        ..pb::LeaseTaskRequest::default()
    };
    let task = local(tasks.lease_task(request)).await?.task;
    Ok(task.and_then(|task| task.lease).expect("a task waits"))
}

async fn report(mut tasks: Tasks, lease: &pb::Lease, sequence: i64) -> Result<i64, Error> {
    let finished = pb::DetectorFinished {
        detector: crate::garak::detector(1),
    };
    let request = pb::ReportTaskRequest {
        lease: Some(lease.clone()),
        events: vec![pb::TaskEvent {
            source_sequence: sequence,
            kind: Some(pb::task_event::Kind::DetectorFinished(finished)),
        }],
        ..pb::ReportTaskRequest::default()
    };
    let answer = local(tasks.report_task(request)).await?;
    Ok(answer.committed_source_sequence)
}

async fn finish(mut tasks: Tasks, lease: &pb::Lease) -> Result<(), Error> {
    let request = pb::FinishTaskRequest {
        lease: Some(lease.clone()),
        outcome: Some(pb::TaskOutcome {
            outcome: pb::Outcome::FailedPermanent.into(),
            reason: "SIMULATED".to_owned(),
            ..pb::TaskOutcome::default()
        }),
        ..pb::FinishTaskRequest::default()
    };
    local(tasks.finish_task(request)).await.map(drop)
}

#[test]
fn without_its_catalog_an_orchestrator_is_unavailable_and_acknowledges_nothing() {
    for_each_seed(|_, mut rng, mut sim| {
        let catalog = Catalog::with_tasks(2);
        add_catalog(&mut sim, &catalog);
        add_orchestrator(&mut sim, "orchestrator", |_| ());
        let store = catalog.clone();
        let lasts = millis(&mut rng, 40_000..50_000);
        sim.client("test", async move {
            let tasks = Tasks::new(client("orchestrator"));
            let held = lease(tasks.clone()).await?;
            assert_eq!(report(tasks.clone(), &held, 1).await?, 1);

            Fault::cut(TO_CATALOG, lasts).begin();
            let over = Instant::now() + lasts;
            let mut refused = 0;
            while Instant::now() + Duration::from_secs(25) < over {
                let errors = [
                    report(tasks.clone(), &held, 2).await.err(),
                    finish(tasks.clone(), &held).await.err(),
                    lease(tasks.clone()).await.err(),
                ];
                for error in errors {
                    let error = error.expect("nothing can be acknowledged");
                    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
                    refused += 1;
                }
            }
            assert!(refused > 0);
            {
                let store = store.store();
                assert!(store.tasks.iter().all(|task| task.outcome.is_none()));
                assert_eq!(store.tasks[0].events.len(), 1);
                assert_eq!(store.tasks[1].epoch, 0);
            }

            tokio::time::sleep_until(over).await;
            let again = aegis_mesh::RetryPolicy {
                max_tries: 20,
                ..aegis_mesh::RetryPolicy::default()
            };
            let told = aegis_mesh::retry(again, || report(tasks.clone(), &held, 2)).await?;
            assert_eq!(told, 2);
            aegis_mesh::retry(again, || finish(tasks.clone(), &held)).await?;
            assert!(store.store().tasks[0].outcome.is_some());
            Ok(())
        });
        sim.run().expect("it ends");
        assert_eq!(catalog.store().violations, Vec::<String>::new());
    });
}
