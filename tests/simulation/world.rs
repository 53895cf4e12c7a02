//! Hosts of the mesh in a simulation, and how a scenario is run for many seeds.

use std::{path::Path, time::Duration};

use aegis_gateway::{Deps as GatewayDeps, grpc::GrpcProxy, public::PublicMethods};
use aegis_mesh::{CallContext, Error, MeshChannel, Principal, Shutdown, with_context};
use aegis_scan_orchestrator::{Config, Deps};
use axum::{Router, body::Body};
use rand::{SeedableRng, rngs::SmallRng};
use tonic::service::Routes;
use tower::ServiceBuilder;
use turmoil::Sim;

use crate::{
    catalog::Catalog,
    garak::{self, Runs, Script, keep_catalogue},
    net::{channel_to, serve},
};

/// A survey of garak that the orchestrator's own tests use.
pub(crate) const CATALOGUE: &[u8] =
    include_bytes!("../../services/scan-orchestrator/tests/data/catalogue.json");

/// How many seeds each scenario runs with, unless `AEGIS_SIMULATION_SEEDS` says otherwise.
const SEEDS: u64 = 30;
/// Messages and timers are as exact as this.
const TICK: Duration = Duration::from_millis(40);
const MAX_LATENCY: Duration = Duration::from_millis(200);

/// Runs a scenario once for each seed, each in a network of its own.
pub(crate) fn for_each_seed(scenario: impl Fn(u64, SmallRng, Sim<'_>)) {
    let seeds = std::env::var("AEGIS_SIMULATION_SEEDS");
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 1..=seeds {
        let _told = OnPanic(seed);
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(600))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(MAX_LATENCY)
            .tcp_capacity(4096)
            .build();
        scenario(seed, SmallRng::seed_from_u64(seed), sim);
    }
}

/// Names the seed of a run that failed.
struct OnPanic(u64);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.0);
        }
    }
}

pub(crate) fn add_catalog(sim: &mut Sim<'_>, catalog: &Catalog) {
    let catalog = catalog.clone();
    sim.host("catalog", move || serve(catalog.routes()));
}

/// A whole orchestrator, its reaper among it.
pub(crate) fn add_orchestrator(
    sim: &mut Sim<'_>,
    name: &'static str,
    change: impl Fn(&mut Config) + Copy + 'static,
) {
    sim.host(name, move || async move {
        let mut config = Config {
            reaper_period_seconds: 1,
            ..Config::default()
        };
        change(&mut config);
        let deps = Deps::new(channel_to("catalog"), channel_to("nobody"));
        let running = aegis_scan_orchestrator::start(config, deps, Shutdown::new()).await?;
        serve(running.routes()).await
    });
}

/// The gateway's pass-through for gRPC; what it has for HTTP listens on real sockets.
pub(crate) fn add_gateway(sim: &mut Sim<'_>) {
    sim.host("gateway", || async {
        let pool = aegis_proto::json::descriptors()?;
        let proxy = GrpcProxy {
            methods: PublicMethods::of(pool)?,
            deps: GatewayDeps {
                orchestrator: channel_to("orchestrator"),
                catalog: channel_to("catalog"),
                artifact: channel_to("nobody"),
            },
            deadline: Duration::from_secs(30),
            shutdown: Shutdown::new(),
        };
        let service = ServiceBuilder::new()
            .map_request(|request: http::Request<Body>| request.map(tonic::body::Body::new))
            .service(proxy.of_caller(Ok(Principal::local())));
        serve(Routes::from(Router::new().fallback_service(service))).await
    });
}

/// A whole runner of one slot, with a stand-in for garak; it dials these hosts, and has a data
/// directory in this folder.
pub(crate) fn add_runner(
    sim: &mut Sim<'_>,
    name: &'static str,
    orchestrators: &'static str,
    folder: &Path,
    script: &Script,
    runs: &Runs,
) {
    let (folder, script, runs) = (folder.join(name), script.clone(), runs.clone());
    keep_catalogue(&folder, CATALOGUE);
    sim.host(name, move || {
        let config = aegis_garak_runner::Config {
            data_dir: folder.clone(),
            slots: Some(1),
            ..aegis_garak_runner::Config::default()
        };
        let stand_in = garak::stand_in(script.clone(), runs.clone());
        let starts_after = script.starts_after;
        async move {
            tokio::time::sleep(starts_after).await;
            let deps =
                aegis_garak_runner::Deps::new(channel_to(orchestrators), channel_to("nobody"))
                    .with_environment([])
                    .with_stand_in(stand_in);
            let running = aegis_garak_runner::start(config, deps, Shutdown::new()).await?;
            running.stopped().await?;
            Ok(())
        }
    });
}

/// A call as the local principal.
pub(crate) async fn local<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Error> {
    let context = CallContext::new(Principal::local());
    Ok(with_context(context, call).await?.into_inner())
}

/// Waits until it is so; the simulation ends when it takes too long.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The channel of a client that calls this host.
pub(crate) fn client(host: &str) -> MeshChannel {
    channel_to(host)
}
