//! The gateway as a service: start, serve, stop.

use std::{net::SocketAddr, time::Duration};

use aegis_mesh::{Error, MeshChannel, Result, ServiceConfig, Shutdown, TaskHandle, listen, spawn};
use tonic_health::ServingStatus;

use crate::{
    config::Config,
    grpc::{Grpc, GrpcProxy},
    http::{App, Guard, Limits},
    listener::{Bounds, serve},
    public::{Deps, PublicMethods},
    transcode::Transcoder,
};

/// A gateway at work.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    served: TaskHandle<()>,
}

impl Running {
    /// Where it listens; the port is the one that was found when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped, which follows the shutdown.
    ///
    /// # Errors
    /// INTERNAL when it stopped otherwise.
    pub async fn stopped(self) -> Result<()> {
        self.served.await
    }
}

/// Starts a gateway over these channels that listens until `shutdown`. It answers once this returns.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_CONFIG; FAILED_PRECONDITION / LISTEN_FAILED when the address cannot be
/// listened on, / CONTRACT_MISMATCH when the contracts' annotations are wrong.
pub async fn start(config: Config, deps: Deps, shutdown: Shutdown) -> Result<Running> {
    config.validate_own()?;
    let pool = aegis_proto::json::descriptors().map_err(Error::internal)?;
    let methods = PublicMethods::of(pool)?;
    let limits = Limits {
        deadline: Duration::from_secs(config.unary_deadline_seconds),
        body_bytes: config.max_body_bytes,
        requests: config.max_requests,
    };
    let transcoder = Transcoder::new(pool, &methods, deps.clone(), limits.deadline)?;
    let proxy = GrpcProxy {
        methods,
        deps: deps.clone(),
        deadline: limits.deadline,
        shutdown: shutdown.clone(),
    };
    let grpc = Grpc::new(proxy).await;

    let listener = listen(config.listen).await?;
    let address = listener.local_addr().map_err(Error::internal)?;
    let guard = Guard::new(address, config.api_token.clone(), &config.allowed_hosts)
        .with_queue_token(config.queue_token.clone());
    let app = App::new(
        guard,
        transcoder,
        grpc.clone(),
        &deps,
        limits,
        shutdown.clone(),
    )?;
    grpc.set_health(ServingStatus::Serving).await;
    tracing::info!(%address, "listening");

    let bounds = Bounds {
        connections: config.max_connections,
        header: Duration::from_secs(config.header_timeout_seconds),
        write: Duration::from_secs(config.write_timeout_seconds),
        grace: Duration::from_secs(config.shutdown_grace_seconds),
    };
    let served = spawn("gateway", async move {
        let unhealthy = async {
            shutdown.triggered().await;
            grpc.set_health(ServingStatus::NotServing).await;
        };
        tokio::join!(serve(listener, app, bounds, shutdown.clone()), unhealthy);
    });
    Ok(Running { address, served })
}

/// Runs a gateway as a process of its own, until `shutdown`.
///
/// # Errors
/// As [`start`].
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    config.validate()?;
    let deps = Deps {
        orchestrator: MeshChannel::connect(&config.orchestrator)?,
        catalog: MeshChannel::connect(&config.catalog)?,
        artifact: MeshChannel::connect(&config.artifact)?,
    };
    start(config, deps, shutdown).await?.stopped().await
}
