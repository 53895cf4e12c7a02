//! The orchestrator as a service: start, serve, stop.

use std::{sync::Arc, time::Duration};

use aegis_mesh::{
    Error, Health, MeshChannel, MeshServer, PageTokens, Result, ServiceConfig, Shutdown,
    TaskHandle, listen, sized,
};
use aegis_proto::{
    admin::v1::job_service_server::JobServiceServer,
    internal::{
        artifact::v1::{
            object_service_client::ObjectServiceClient, source_service_client::SourceServiceClient,
        },
        catalog::v1::{
            custom_probe_store_service_client::CustomProbeStoreServiceClient,
            plugin_catalogue_service_client::PluginCatalogueServiceClient,
            scan_store_service_client::ScanStoreServiceClient,
            statistics_fold_service_client::StatisticsFoldServiceClient,
            store_keeping_service_client::StoreKeepingServiceClient,
            task_queue_service_client::TaskQueueServiceClient,
            template_store_service_client::TemplateStoreServiceClient,
        },
        task::v1::task_service_server::TaskServiceServer,
    },
    plugin::v1::plugin_service_server::PluginServiceServer,
    probe::v1::custom_probe_service_server::CustomProbeServiceServer,
    scan::v1::scan_service_server::ScanServiceServer,
    template::v1::template_service_server::TemplateServiceServer,
};
use tonic::service::Routes;

use crate::{
    catalogues::Catalogues,
    config::Config,
    customs::Customs,
    grpc::{CustomProbeApi, JobApi, PluginApi, ScanApi, TaskApi, TaskPolicy, TemplateApi},
    jobs::{self, Clients, Scheduler},
    templates::Templates,
};

/// Long polls last up to 30 s, and their answer takes a moment.
const LONG_POLL_DEADLINE: Duration = Duration::from_secs(40);
/// A custom probe is tried out for a minute at most, and a runner may have to be waited for.
const VALIDATE_DEADLINE: Duration = Duration::from_secs(75);

/// A job that takes longer goes on, but nobody waits for it.
const JOB_DEADLINE: Duration = Duration::from_secs(600);

/// Whom the orchestrator calls.
pub struct Deps {
    /// Serves ScanStoreService, TaskQueueService, PluginCatalogueService, StoreKeepingService and
    /// CustomProbeStoreService.
    pub catalog: MeshChannel,
    /// Serves SourceService and ObjectService.
    pub artifact: MeshChannel,
}

impl Deps {
    /// Over these channels.
    pub fn new(catalog: MeshChannel, artifact: MeshChannel) -> Self {
        Self { catalog, artifact }
    }
}

/// An orchestrator at work.
pub struct Running {
    routes: Routes,
    health: Health,
    jobs: Vec<TaskHandle<()>>,
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

    /// Waits for its jobs to end, which follows a shutdown at once.
    ///
    /// # Errors
    /// INTERNAL when one ended otherwise.
    pub async fn stopped(self) -> Result<()> {
        all(self.jobs).await
    }
}

/// Starts an orchestrator that works until `shutdown`.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_CONFIG.
pub async fn start(config: Config, deps: Deps, shutdown: Shutdown) -> Result<Running> {
    config.validate_own()?;
    let (server, jobs) = assemble(&config, deps, shutdown);
    let health = server.health();
    health.set_serving();
    Ok(Running {
        routes: server.into_routes()?,
        health,
        jobs,
    })
}

/// Runs an orchestrator as a process of its own: dials the services that the configuration
/// names, listens, and serves until `shutdown`.
///
/// # Errors
/// As [`start`]; FAILED_PRECONDITION / LISTEN_FAILED when the address cannot be listened on.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    config.validate()?;
    let deps = Deps::new(
        MeshChannel::connect(&config.catalog)?,
        MeshChannel::connect(&config.artifact)?,
    );
    let listener = listen(config.server.listen).await?;
    let address = listener.local_addr().map_err(Error::internal)?;
    tracing::info!(%address, "listening");
    let (server, jobs) = assemble(&config, deps, shutdown.clone());
    server.health().set_serving();
    let served = server.serve(listener, shutdown.clone()).await;
    shutdown.trigger();
    served.and(all(jobs).await)
}

/// Waits for each; the first that ended otherwise than it should.
async fn all(jobs: Vec<TaskHandle<()>>) -> Result<()> {
    let mut result = Ok(());
    for job in jobs {
        result = result.and(job.await);
    }
    result
}

fn assemble(config: &Config, deps: Deps, shutdown: Shutdown) -> (MeshServer, Vec<TaskHandle<()>>) {
    let channel = deps.catalog;
    let store = sized!(
        ScanStoreServiceClient::new(channel.clone()),
        &config.catalog
    );
    let queue = sized!(
        TaskQueueServiceClient::new(channel.clone()),
        &config.catalog
    );
    let custom_store = sized!(
        CustomProbeStoreServiceClient::new(channel.clone()),
        &config.catalog
    );
    let objects = ObjectServiceClient::new(deps.artifact.clone());
    let sources = sized!(SourceServiceClient::new(deps.artifact), &config.artifact);
    let customs = Customs::new(custom_store.clone());
    let templates = sized!(
        TemplateStoreServiceClient::new(channel.clone()),
        &config.catalog
    );
    let statistics = sized!(
        StatisticsFoldServiceClient::new(channel.clone()),
        &config.catalog
    );
    let clients = Clients {
        keeping: sized!(
            StoreKeepingServiceClient::new(channel.clone()),
            &config.catalog
        ),
        objects: sized!(objects, &config.artifact),
        fold: statistics,
    };
    let (scheduler, mut handles) =
        Scheduler::start(clients.clone(), config.jobs.clone(), shutdown.clone());
    let plugins = sized!(PluginCatalogueServiceClient::new(channel), &config.catalog);
    let catalogues = Arc::new(Catalogues::new(plugins));
    let tokens = match &config.page_token_secret {
        Some(secret) => PageTokens::from_secret(secret),
        None => PageTokens::random(),
    };
    let templates = Templates::new(templates);
    let template_api = TemplateApi::new(templates.clone(), tokens.clone());
    let scans = ScanApi::new(
        store,
        Arc::clone(&catalogues),
        customs.clone(),
        templates,
        config,
        shutdown.clone(),
    );
    let custom = CustomProbeApi::new(custom_store, sources, Arc::clone(&catalogues));
    let plugins = PluginApi::new(Arc::clone(&catalogues), customs, tokens);
    let tasks = TaskApi::new(queue.clone(), catalogues, TaskPolicy::new(config));
    let limit = &config.server;
    let server = MeshServer::builder("scan-orchestrator", limit)
        .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
        .add_service(sized!(ScanServiceServer::new(scans), limit))
        .add_service(sized!(PluginServiceServer::new(plugins), limit))
        .add_service(sized!(CustomProbeServiceServer::new(custom), limit))
        .add_service(sized!(TemplateServiceServer::new(template_api), limit))
        .add_service(sized!(TaskServiceServer::new(tasks), limit))
        .add_service(sized!(
            JobServiceServer::new(JobApi::new(scheduler, clients)),
            limit
        ))
        .deadline("/aegis.admin.v1.JobService/RunJob", Some(JOB_DEADLINE))
        .deadline(
            "/aegis.internal.task.v1.TaskService/LeaseTask",
            Some(LONG_POLL_DEADLINE),
        )
        .deadline(
            "/aegis.internal.task.v1.TaskService/AwaitDirective",
            Some(LONG_POLL_DEADLINE),
        )
        .deadline(
            "/aegis.probe.v1.CustomProbeService/ValidateCustomProbe",
            Some(VALIDATE_DEADLINE),
        );
    let period = Duration::from_secs(config.reaper_period_seconds);
    handles.push(jobs::reaper(
        queue,
        TaskPolicy::new(config),
        period,
        shutdown,
    ));
    (server, handles)
}
