//! The service: start, serve, stop.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_mesh::dependency::follow;
use aegis_mesh::spawn::blocking;
use aegis_mesh::{
    Error, Health, MeshChannel, MeshServer, PageTokens, Result, ServiceConfig, Shutdown,
    TaskHandle, listen, sized, spawn,
};
use aegis_proto::internal::artifact::v1::artifact_service_server::ArtifactServiceServer;
use aegis_proto::internal::artifact::v1::object_service_server::ObjectServiceServer;
use aegis_proto::internal::artifact::v1::source_service_server::SourceServiceServer;
use aegis_proto::report::v1::import_service_server::ImportServiceServer;
use aegis_proto::report::v1::report_service_server::ReportServiceServer;
use tokio::time::MissedTickBehavior;
use tonic::service::Routes;

use crate::config::{Config, StorageBackend};
use crate::domain::compose::Composer;
use crate::domain::custom_source::Sources;
use crate::domain::download::Downloads;
use crate::domain::import::Imports;
use crate::domain::indexes::Indexes;
use crate::domain::objects::Objects;
use crate::domain::reading::Reports;
use crate::domain::registry::Registry;
use crate::domain::repair::Repairs;
use crate::domain::scratch::Scratch;
use crate::domain::upload::Uploads;
use crate::grpc::{
    ArtifactApi, CatalogRegistry, CatalogSources, ImportApi, ObjectApi, ReportApi, SourceApi,
};
use crate::store::{LocalStore, ObjectStore, S3Store};
use crate::tidy::tidy;

const COMPOSE: &str = "/aegis.internal.artifact.v1.ArtifactService/ComposeReport";

const CHECK: &str = "/aegis.internal.artifact.v1.ObjectService/CheckObjects";
/// An object may be read as a whole.
const CHECK_DEADLINE: Duration = Duration::from_secs(600);

/// Whom the service calls, and where it keeps objects.
pub struct Deps {
    catalog: MeshChannel,
    store: Option<Arc<dyn ObjectStore>>,
}

impl Deps {
    /// `catalog` serves ArtifactRegistryService. Objects lie where the configuration says.
    pub fn new(catalog: MeshChannel) -> Self {
        Self {
            catalog,
            store: None,
        }
    }

    /// Keeps objects here instead.
    pub fn with_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.store = Some(store);
        self
    }
}

/// The service at work; stops with its shutdown.
pub struct Running {
    routes: Routes,
    health: Health,
    jobs: Jobs,
}

/// What the service does besides answering.
struct Jobs {
    sweeper: TaskHandle<()>,
    watch: TaskHandle<()>,
    tidy: TaskHandle<()>,
}

impl Jobs {
    async fn stopped(self) -> Result<()> {
        let (watch, tidy) = (self.watch.await, self.tidy.await);
        self.sweeper.await.and(watch).and(tidy)
    }
}

impl Running {
    /// What it serves, with all layers, for calls in this process.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Its health: serving while its object store can be used, a directory from the start.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Waits until its background jobs are over, which follows the shutdown at once.
    ///
    /// # Errors
    /// INTERNAL when it ended otherwise.
    pub async fn stopped(self) -> Result<()> {
        self.jobs.stopped().await
    }
}

/// Starts a service that works until `shutdown`.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_CONFIG; FAILED_PRECONDITION / DATA_DIR_IN_USE or DATA_DIR_UNUSABLE.
pub async fn start(config: Config, deps: Deps, shutdown: Shutdown) -> Result<Running> {
    config.validate_own()?;
    let (server, jobs) = assemble(config, deps, shutdown).await?;
    let health = server.health();
    Ok(Running {
        routes: server.into_routes()?,
        health,
        jobs,
    })
}

/// Runs the service as a process of its own: dials the configured catalog, listens, and serves
/// until `shutdown`.
///
/// # Errors
/// As [`start`]; FAILED_PRECONDITION / LISTEN_FAILED when the address cannot be listened on.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    config.validate()?;
    let deps = Deps::new(MeshChannel::connect(&config.catalog)?);
    let listener = listen(config.server.listen).await?;
    let (server, jobs) = assemble(config, deps, shutdown.clone()).await?;
    server.serve(listener, shutdown).await?;
    jobs.stopped().await
}

async fn assemble(config: Config, deps: Deps, shutdown: Shutdown) -> Result<(MeshServer, Jobs)> {
    let data_dir = config.data_dir.clone();
    let given = match (deps.store, config.storage_backend) {
        (Some(given), _) => Some(given),
        (None, StorageBackend::Local) => None,
        (None, StorageBackend::Minio) => {
            Some(Arc::new(S3Store::open(&config.minio)?) as Arc<dyn ObjectStore>)
        }
    };
    let own_store = given.is_none();
    let opened = blocking("open", move || DataDir::open(&data_dir, own_store)).await?;
    let data_dir = opened?;
    let tokens = config.page_token_key.as_ref().map(PageTokens::from_secret);
    let tokens = tokens.unwrap_or(data_dir.tokens);
    let local = data_dir
        .store
        .map(|store| Arc::new(store) as Arc<dyn ObjectStore>);
    // One of the two is there: the directory was opened because no other store was given.
    let store = given
        .or(local)
        .ok_or_else(|| Error::internal("no object store"))?;
    let source_rows = Arc::new(CatalogSources::new(deps.catalog.clone(), &config.catalog));
    let catalog = deps.catalog.clone();
    let registry: Arc<dyn Registry> = Arc::new(CatalogRegistry::new(catalog, &config.catalog));
    let scratch = data_dir.scratch.bounded(config.scratch_bytes());

    let rows = || (Arc::clone(&registry), Arc::clone(&store));
    let (r, s) = rows();
    let sources = Sources::new(source_rows, Arc::clone(&s), scratch.clone());
    let limits = config.upload_limits();
    let uploads = Arc::new(Uploads::new(r, s, scratch.clone(), limits));
    let (taken, s) = (Arc::clone(&uploads), Arc::clone(&store));
    let imports = Imports::new(taken, s, scratch.clone(), limits);
    let repairs = Repairs::new(Arc::clone(&store), scratch.clone(), config.max_upload_bytes);
    let indexes = Indexes::new(Arc::clone(&store), repairs.clone());
    let (r, s) = rows();
    let composer = Composer::new(r, s, scratch, indexes.clone(), config.compose_limits());
    let (r, s) = rows();
    let reports = Reports::new(r, s, indexes.clone());
    let downloads = Downloads::new(registry, Arc::clone(&store), indexes, repairs);

    let artifact_api = ArtifactServiceServer::new(ArtifactApi::new(Arc::clone(&uploads), composer));
    let source_api = SourceServiceServer::new(SourceApi::new(sources));
    let import_api = ImportApi::new(imports, deps.catalog, &config.catalog);
    let import_api = ImportServiceServer::new(import_api);
    let object_api = ObjectServiceServer::new(ObjectApi::new(Objects::new(Arc::clone(&store))));
    let report_api = ReportServiceServer::new(ReportApi::new(reports, downloads, tokens));
    let server = MeshServer::builder("artifact", &config.server)
        .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
        .deadline(
            COMPOSE,
            Some(Duration::from_secs(config.compose_deadline_seconds)),
        )
        .add_service(sized!(artifact_api, &config.server))
        .add_service(sized!(source_api, &config.server))
        .add_service(sized!(import_api, &config.server))
        .add_service(sized!(object_api, &config.server))
        .deadline(CHECK, Some(CHECK_DEADLINE))
        .add_service(sized!(report_api, &config.server));
    let period = Duration::from_secs(config.sweep_seconds);
    let sweeper = spawn(
        "upload-sweeper",
        sweep(uploads, period, data_dir.lock, shutdown.clone()),
    );
    let health = server.health();
    // A directory is looked at before anybody asks; a store elsewhere may take its time.
    if own_store {
        health.set_serving();
    }
    let tidy = spawn("store-tidy", tidy(Arc::clone(&store), shutdown.clone()));
    let check = move || {
        let store = Arc::clone(&store);
        async move { store.check().await }
    };
    let watch = follow("object store", check, health, shutdown);
    let watch = spawn("store-watch", watch);
    Ok((
        server,
        Jobs {
            sweeper,
            watch,
            tidy,
        },
    ))
}

/// Collects uploads whose time is over. Holds the directory's lock as long as the service works.
async fn sweep(uploads: Arc<Uploads>, period: Duration, lock: File, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.until(ticks.tick()).await.is_some() {
        let collected = uploads.sweep();
        if collected > 0 {
            tracing::info!(collected, "uploads whose time was over were removed");
        }
    }
    drop(lock);
}

/// What the service keeps on this machine.
struct DataDir {
    lock: File,
    scratch: Scratch,
    store: Option<LocalStore>,
    tokens: PageTokens,
}

impl DataDir {
    fn open(folder: &Path, with_store: bool) -> Result<Self> {
        let unusable = |error: io::Error| {
            let message = format!("cannot use {}: {error}", folder.display());
            Error::failed_precondition("DATA_DIR_UNUSABLE", message)
                .hint("set data_dir to a folder that this user may write")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(unusable)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is used by another process", folder.display());
                return Err(Error::failed_precondition("DATA_DIR_IN_USE", message)
                    .hint("stop that process, or set data_dir to another folder"));
            }
        }
        let store = with_store.then(|| LocalStore::open(&folder.join("objects")));
        Ok(Self {
            lock,
            scratch: Scratch::open(&folder.join("uploads")).map_err(unusable)?,
            store: store.transpose().map_err(unusable)?,
            tokens: PageTokens::from_file(&folder.join("page-token.key")).map_err(unusable)?,
        })
    }
}
