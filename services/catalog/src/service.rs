//! The catalog as a service: start, serve, stop.

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use aegis_mesh::{
    Error, Health, MeshServer, PageTokens, Result, Secret, ServiceConfig, Shutdown, TaskHandle,
    dependency::follow, listen, sized, spawn,
};
use aegis_proto::{
    admin::v1::queue_service_server::QueueServiceServer,
    internal::catalog::v1::{
        artifact_registry_service_server::ArtifactRegistryServiceServer,
        custom_probe_store_service_server::CustomProbeStoreServiceServer,
        import_store_service_server::ImportStoreServiceServer,
        plugin_catalogue_service_server::PluginCatalogueServiceServer,
        scan_store_service_server::ScanStoreServiceServer,
        statistics_fold_service_server::StatisticsFoldServiceServer,
        store_keeping_service_server::StoreKeepingServiceServer,
        task_queue_service_server::TaskQueueServiceServer,
        template_store_service_server::TemplateStoreServiceServer,
    },
    scan::v1::{
        comparison_service_server::ComparisonServiceServer,
        history_service_server::HistoryServiceServer,
    },
    statistics::v1::statistics_service_server::StatisticsServiceServer,
};
use tonic::service::Routes;

use crate::{
    config::Config,
    grpc::{
        Artifacts, Catalogues, Comparisons, CustomProbes, History, Imports, Keeping, Queue, Scans,
        Statistics, Tasks, Templates,
    },
    store::{DatabaseOptions, Location, Store},
};

/// A long poll, and the time to answer it.
const LONG_POLL: Duration = Duration::from_secs(40);
/// Most bytes of a plugin catalogue, and what goes with it.
const MAX_CATALOGUE_BYTES: usize = 9 << 20;

/// Whom the catalog calls: nobody. And what whoever starts it knows.
#[derive(Debug, Default)]
pub struct Deps {
    /// Nobody else uses its file, or will while this one runs: leases that it finds there are of
    /// the dead. Means nothing with PostgreSQL, which anybody may use.
    pub alone: bool,
}

/// A catalog at work.
#[derive(Debug)]
pub struct Running {
    routes: Routes,
    health: Health,
    store: Store,
    watch: TaskHandle<()>,
    shutdown: Shutdown,
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

    /// Waits for the shutdown, then closes the database.
    ///
    /// # Errors
    /// When the database is gone already.
    pub async fn stopped(self) -> Result<()> {
        self.shutdown.triggered().await;
        let watched = self.watch.await;
        self.health.set_not_serving();
        watched.and(self.store.close().await)
    }
}

/// Starts a catalog that works until `shutdown`: its database is open and up to date.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_CONFIG; FAILED_PRECONDITION / DATA_DIR_UNUSABLE;
/// UNAVAILABLE / DATABASE_DOWN; FAILED_PRECONDITION / DATABASE_UNUSABLE.
pub async fn start(config: Config, deps: Deps, shutdown: Shutdown) -> Result<Running> {
    config.validate_own()?;
    let store = open(&config).await?;
    if deps.alone && matches!(config.database()?.location, Location::File(_)) {
        end_leases(&store).await;
    }
    let server = assemble(&config, &store, &shutdown);
    let health = server.health();
    let watch = watch(&store, &health, &shutdown);
    Ok(Running {
        routes: server.into_routes()?,
        health,
        store,
        watch,
        shutdown,
    })
}

/// Runs a catalog as a process of its own, until `shutdown`.
///
/// # Errors
/// As [`start`]; FAILED_PRECONDITION / LISTEN_FAILED when the address cannot be listened on.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    config.validate()?;
    let listener = listen(config.server.listen).await?;
    let store = open(&config).await?;
    let server = assemble(&config, &store, &shutdown);
    let watch = watch(&store, &server.health(), &shutdown);
    let served = server.serve(listener, shutdown.clone()).await;
    shutdown.trigger();
    served.and(watch.await).and(store.close().await)
}

/// Healthy from now on, while the database answers.
fn watch(store: &Store, health: &Health, shutdown: &Shutdown) -> TaskHandle<()> {
    health.set_serving();
    let store = store.clone();
    let check = move || {
        let store = store.clone();
        async move { store.check().await }
    };
    let watch = follow("database", check, health.clone(), shutdown.clone());
    spawn("database-watch", watch)
}

/// Nothing more is needed when it fails: what cannot be ended now runs out by itself.
async fn end_leases(store: &Store) {
    if let Err(error) = store.end_leases().await {
        tracing::warn!(reason = error.reason(), %error, "leases of the dead stay until they run out");
    }
}

async fn open(config: &Config) -> Result<Store> {
    let database = config.database()?;
    prepare_place(&database)?;
    Store::open(&database, config.retention()).await
}

/// Makes SQLite's file when it is missing.
///
/// # Errors
/// FAILED_PRECONDITION / DATA_DIR_UNUSABLE.
pub(crate) fn prepare_place(database: &DatabaseOptions) -> Result<()> {
    let Location::File(file) = &database.location else {
        return Ok(());
    };
    make_file(file).map_err(|error| {
        let message = format!("{} cannot be made: {error}", file.display());
        Error::failed_precondition("DATA_DIR_UNUSABLE", message)
            .hint("choose a folder that can be written to with data_dir")
    })
}

/// Makes the file and its folder when they are missing, for their owner alone: specifications
/// may hold what is nobody else's business. What SQLite puts beside the file has its mode.
fn make_file(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .map(drop)
}

fn assemble(config: &Config, store: &Store, shutdown: &Shutdown) -> MeshServer {
    let limits = &config.server;
    let history = History {
        store: store.clone(),
        pages: PageTokens::from_secret(&Secret::new(hex::encode(store.page_key()))),
    };
    let comparisons = Comparisons {
        store: store.clone(),
        pages: history.pages.clone(),
    };
    let statistics = Statistics {
        store: store.clone(),
        pages: history.pages.clone(),
    };
    let scans = Scans {
        store: store.clone(),
        shutdown: shutdown.clone(),
    };
    let tasks = Tasks {
        store: store.clone(),
        shutdown: shutdown.clone(),
    };
    let artifacts = Artifacts {
        store: store.clone(),
    };
    let custom_probes = CustomProbes {
        store: store.clone(),
        pages: PageTokens::from_secret(&Secret::new(hex::encode(store.page_key()))),
    };
    let imports = Imports {
        store: store.clone(),
    };
    let catalogues = Catalogues {
        store: store.clone(),
    };
    let keeping = Keeping {
        store: store.clone(),
    };
    let templates = Templates {
        store: store.clone(),
    };
    let queue = Queue {
        store: store.clone(),
    };
    MeshServer::builder("catalog", limits)
        .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
        .add_service(sized!(HistoryServiceServer::new(history), limits))
        .add_service(sized!(ComparisonServiceServer::new(comparisons), limits))
        .add_service(sized!(
            StatisticsServiceServer::new(statistics.clone()),
            limits
        ))
        .add_service(sized!(StatisticsFoldServiceServer::new(statistics), limits))
        .add_service(sized!(QueueServiceServer::new(queue), limits))
        .add_service(sized!(ScanStoreServiceServer::new(scans), limits))
        .add_service(sized!(TaskQueueServiceServer::new(tasks), limits))
        .add_service(sized!(
            CustomProbeStoreServiceServer::new(custom_probes),
            limits
        ))
        .add_service(sized!(
            ArtifactRegistryServiceServer::new(artifacts),
            limits
        ))
        .add_service(sized!(ImportStoreServiceServer::new(imports), limits))
        .add_service(sized!(TemplateStoreServiceServer::new(templates), limits))
        .add_service(sized!(StoreKeepingServiceServer::new(keeping), limits))
        .add_service(
            PluginCatalogueServiceServer::new(catalogues)
                .max_decoding_message_size(MAX_CATALOGUE_BYTES)
                .max_encoding_message_size(MAX_CATALOGUE_BYTES),
        )
        .deadline(
            "/aegis.internal.catalog.v1.TaskQueueService/LeaseTask",
            Some(LONG_POLL),
        )
        .deadline(
            "/aegis.internal.catalog.v1.TaskQueueService/AwaitDirective",
            Some(LONG_POLL),
        )
        .deadline(
            "/aegis.internal.catalog.v1.CustomProbeStoreService/AwaitCheck",
            Some(LONG_POLL),
        )
}
