//! The orchestrator as a service: start, serve, stop.

use std::time::Duration;

use aegis_mesh::{
    Error, Health, MeshChannel, MeshServer, Result, ServiceConfig, Shutdown, TaskHandle, sized,
    spawn,
};
use aegis_proto::{
    internal::{
        catalog::v1::{
            plugin_catalogue_service_client::PluginCatalogueServiceClient,
            scan_store_service_client::ScanStoreServiceClient,
            task_queue_service_client::TaskQueueServiceClient,
        },
        task::v1::task_service_server::TaskServiceServer,
    },
    plugin::v1::plugin_service_server::PluginServiceServer,
    scan::v1::scan_service_server::ScanServiceServer,
};
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{
    config::Config,
    grpc::{Catalogues, PluginApi, ScanApi, TaskApi},
    jobs,
};

/// A long poll, and the time to answer it.
const LONG_POLL: Duration = Duration::from_secs(40);
/// Most bytes of a published catalogue, and what goes with it.
const MAX_CATALOGUE_BYTES: usize = 9 << 20;

/// Whom the orchestrator calls.
pub struct Deps {
    catalog: MeshChannel,
}

impl Deps {
    /// `catalog` serves ScanStoreService, TaskQueueService and PluginCatalogueService.
    pub fn new(catalog: MeshChannel) -> Self {
        Self { catalog }
    }
}

/// An orchestrator at work.
pub struct Running {
    routes: Routes,
    health: Health,
    reaper: TaskHandle<()>,
}

impl Running {
    /// What it serves, with all layers, for calls in this process.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Its health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Waits until its jobs are over, which follows the shutdown.
    ///
    /// # Errors
    /// INTERNAL when a job ended otherwise.
    pub async fn stopped(self) -> Result<()> {
        self.reaper.await
    }
}

/// Starts an orchestrator that works until `shutdown`.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_CONFIG.
pub async fn start(config: Config, deps: Deps, shutdown: Shutdown) -> Result<Running> {
    config
        .validate_own()
        .map_err(|error| Error::invalid_argument("INVALID_CONFIG", error.to_string()))?;
    let (server, reaper) = assemble(&config, &deps, &shutdown);
    let health = server.health();
    health.set_serving();
    Ok(Running {
        routes: server.into_routes()?,
        health,
        reaper,
    })
}

/// Runs an orchestrator as a process of its own, until `shutdown`.
///
/// # Errors
/// As [`start`]; FAILED_PRECONDITION / LISTEN_FAILED when the address cannot be listened on.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    config
        .validate()
        .map_err(|error| Error::invalid_argument("INVALID_CONFIG", error.to_string()))?;
    let deps = Deps::new(MeshChannel::connect(&config.catalog)?);
    let address = config.server.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}");
        Error::failed_precondition("LISTEN_FAILED", message)
    })?;
    let (server, reaper) = assemble(&config, &deps, &shutdown);
    server.health().set_serving();
    let served = server.serve(listener, shutdown).await;
    served.and(reaper.await)
}

fn assemble(config: &Config, deps: &Deps, shutdown: &Shutdown) -> (MeshServer, TaskHandle<()>) {
    let catalogues = Catalogues::new(deps.catalog.clone(), MAX_CATALOGUE_BYTES);
    let queue = TaskQueueServiceClient::new(deps.catalog.clone());
    let scans = ScanApi {
        config: config.clone(),
        catalogues: catalogues.clone(),
        store: ScanStoreServiceClient::new(deps.catalog.clone()),
        shutdown: shutdown.clone(),
    };
    let tasks = TaskApi {
        config: config.clone(),
        queue: queue.clone(),
        catalogues: PluginCatalogueServiceClient::new(deps.catalog.clone())
            .max_encoding_message_size(MAX_CATALOGUE_BYTES),
    };
    let limits = &config.server;
    let server = MeshServer::builder("scan-orchestrator", limits)
        .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
        .add_service(sized!(ScanServiceServer::new(scans), limits))
        .add_service(sized!(PluginServiceServer::new(PluginApi { catalogues }), limits))
        .add_service(
            TaskServiceServer::new(tasks)
                .max_decoding_message_size(MAX_CATALOGUE_BYTES)
                .max_encoding_message_size(limits.max_message_bytes),
        )
        .deadline("/aegis.internal.task.v1.TaskService/LeaseTask", Some(LONG_POLL))
        .deadline("/aegis.internal.task.v1.TaskService/AwaitDirective", Some(LONG_POLL));
    let reaper = spawn("reaper", jobs::reap(config.clone(), queue, shutdown.clone()));
    (server, reaper)
}
