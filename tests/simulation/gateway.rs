//! A client of the gateway, which has the orchestrator and the catalog behind it.

use std::time::Duration;

use aegis_mesh::{Error, RetryPolicy, retry};
use aegis_proto::{
    json::from_json,
    scan::v1::{
        CreateScanRequest, Scan, ScanSpec, WatchScanRequest,
        scan_service_client::ScanServiceClient, watch_scan_response::Update,
    },
};
use rand::{RngExt, rngs::SmallRng};
use serde_json::json;
use tokio::time::sleep;
use turmoil::Sim;
use uuid::Uuid;

use crate::{
    catalog::Catalog,
    fault::{Fault, Kind, millis},
    world::{CATALOGUE, add_catalog, add_gateway, add_orchestrator, client, for_each_seed, local},
};

const SCAN: &str = "0198c0de-0000-7000-8000-000000000000";
const EVENTS: i64 = 60;

type Scans = ScanServiceClient<aegis_mesh::MeshChannel>;

fn any_link(rng: &mut SmallRng) -> (&'static str, &'static str) {
    let links = [
        ("test", "gateway"),
        ("gateway", "orchestrator"),
        ("orchestrator", "catalog"),
    ];
    links[rng.random_range(0..links.len())]
}

fn add_all(sim: &mut Sim<'_>, catalog: &Catalog) {
    add_catalog(sim, catalog);
    add_orchestrator(sim, "orchestrator", |_| ());
    add_gateway(sim);
}

/// Follows a scan to its end as every client does: after a break, on from the last event seen.
async fn follow(scans: Scans) -> (Vec<i64>, usize) {
    let (mut seen, mut watches) = (Vec::new(), 0);
    loop {
        watches += 1;
        let request = WatchScanRequest {
            scan_id: SCAN.to_owned(),
            after_sequence: seen.last().copied().unwrap_or_default(),
        };
        let opened = local(scans.clone().watch_scan(request)).await;
        if let Ok(mut watch) = opened {
            loop {
                match watch.message().await {
                    Ok(None) => return (seen, watches),
                    Ok(Some(message)) => {
                        if let Some(Update::Event(event)) = message.update {
                            seen.push(event.sequence);
                        }
                    }
                    Err(_) => break,
                }
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}

#[test]
fn a_watch_goes_on_over_every_break_without_gap_or_repeat() {
    let watches = std::cell::Cell::new(0);
    for_each_seed(|_, mut rng, mut sim| {
        let catalog = Catalog::default();
        add_all(&mut sim, &catalog);
        let happens = catalog.clone();
        let mut at_random = rng.clone();
        sim.client("scan", async move {
            for event in 1..=EVENTS {
                sleep(millis(&mut at_random, 50..1_500)).await;
                happens.store().events.push(event);
            }
            happens.store().events_end = true;
            Ok(())
        });
        let faults: Vec<_> = (0..3)
            .map(|_| {
                let kind = [Kind::Cut, Kind::Held][rng.random_range(0..2)];
                let (link, lasts) = (any_link(&mut rng), millis(&mut rng, 200..6_000));
                (millis(&mut rng, 2_000..12_000), Fault { link, kind, lasts })
            })
            .collect();
        sim.client("weather", async move {
            for (pause, fault) in faults {
                sleep(pause).await;
                let lasts = fault.lasts;
                fault.begin();
                // Its end is a task of this host's.
                sleep(lasts + Duration::from_millis(100)).await;
            }
            Ok(())
        });
        let total = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = total.clone();
        sim.client("test", async move {
            let (seen, watches) = follow(Scans::new(client("gateway"))).await;
            assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
            count.set(watches);
            Ok(())
        });
        sim.run().expect("it ends");
        watches.set(watches.get() + total.get() - 1);
    });
    assert!(watches.get() > 0, "no seed had a watch that broke");
}

fn creation() -> CreateScanRequest {
    let spec = json!({"target": {"type": "test.Repeat"}, "include": ["probes.dan.AntiDAN"]});
    CreateScanRequest {
        request_id: Uuid::new_v4().to_string(),
        spec: Some(from_json::<ScanSpec>(spec).expect("a specification")),
        ..CreateScanRequest::default()
    }
}

async fn create(mut scans: Scans, request: CreateScanRequest) -> Result<Scan, Error> {
    let answer = local(scans.create_scan(request)).await?;
    Ok(answer.scan.expect("a scan"))
}

#[test]
fn a_scan_whose_answer_is_lost_is_created_once() {
    let repeats = std::cell::Cell::new(0);
    for_each_seed(|_, mut rng, mut sim| {
        let catalog = Catalog::default();
        catalog.publish(CATALOGUE);
        add_all(&mut sim, &catalog);
        let fault = Fault::cut(any_link(&mut rng), millis(&mut rng, 300..4_000));
        catalog.store().on_create = Some(fault);
        let total = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = total.clone();
        let store = catalog.clone();
        sim.client("test", async move {
            let scans = Scans::new(client("gateway"));
            let request = creation();
            let patience = RetryPolicy {
                max_tries: 20,
                max_total: Duration::from_secs(120),
                ..RetryPolicy::default()
            };
            let ask = || {
                count.set(count.get() + 1);
                create(scans.clone(), request.clone())
            };
            let scan = retry(patience, ask).await?;
            let created: Vec<String> = {
                let store = store.store();
                store.scans.iter().map(|(_, s)| s.scan_id.clone()).collect()
            };
            assert_eq!(created, [scan.scan_id]);
            Ok(())
        });
        sim.run().expect("it ends");
        repeats.set(repeats.get() + total.get() - 1);
    });
    assert!(repeats.get() > 0, "no seed had an answer that was lost");
}
