//! The whole mesh in one process: five services over in-process channels, on embedded defaults.

mod config;
mod data_dir;

use std::net::SocketAddr;

use aegis_mesh::{MeshChannel, Result, Shutdown};

pub(crate) use config::MeshConfig;
use data_dir::DataDir;

/// Five services at work.
pub(crate) struct Mesh {
    gateway: aegis_gateway::Running,
    orchestrator: aegis_scan_orchestrator::Running,
    artifact: aegis_artifact::Running,
    catalog: aegis_catalog::Running,
    runner: aegis_garak_runner::Running,
    /// Held as long as the mesh runs: nobody else may use the folder.
    _data_dir: DataDir,
}

impl Mesh {
    /// Starts all five. They answer once this returns; garak warms up behind them.
    ///
    /// # Errors
    /// A data directory that cannot be used, an address that cannot be listened on, a service that
    /// does not start; what was started before is stopped through `shutdown` by the caller.
    pub(crate) async fn start(config: MeshConfig, shutdown: &Shutdown) -> Result<Self> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let alone = config.has_catalog_alone();
        let deps = aegis_catalog::Deps { alone };
        let catalog = aegis_catalog::start(config.catalog, deps, shutdown.clone()).await?;
        let to_catalog = MeshChannel::local(catalog.routes());
        let artifact = aegis_artifact::start(
            config.artifact,
            aegis_artifact::Deps::new(to_catalog.clone()),
            shutdown.clone(),
        )
        .await?;
        let to_artifact = MeshChannel::local(artifact.routes());
        let orchestrator = aegis_scan_orchestrator::start(
            config.scan_orchestrator,
            aegis_scan_orchestrator::Deps {
                catalog: to_catalog.clone(),
                artifact: to_artifact.clone(),
            },
            shutdown.clone(),
        )
        .await?;
        let to_orchestrator = MeshChannel::local(orchestrator.routes());
        let gateway = aegis_gateway::start(
            config.gateway,
            aegis_gateway::Deps {
                orchestrator: to_orchestrator.clone(),
                catalog: to_catalog,
                artifact: to_artifact.clone(),
            },
            shutdown.clone(),
        )
        .await?;
        let runner = aegis_garak_runner::start(
            config.garak_runner,
            aegis_garak_runner::Deps::new(to_orchestrator, to_artifact),
            shutdown.clone(),
        )
        .await?;
        Ok(Self {
            gateway,
            orchestrator,
            artifact,
            catalog,
            runner,
            _data_dir: data_dir,
        })
    }

    /// Where the gateway listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Waits until all have stopped, which follows the shutdown. The runner drains first: it still
    /// needs the others to give back what it has.
    ///
    /// # Errors
    /// The first that did not stop as it should.
    pub(crate) async fn stopped(self) -> Result<()> {
        let runner = self.runner.stopped().await;
        let gateway = self.gateway.stopped().await;
        let orchestrator = self.orchestrator.stopped().await;
        let artifact = self.artifact.stopped().await;
        let catalog = self.catalog.stopped().await;
        runner
            .and(gateway)
            .and(orchestrator)
            .and(artifact)
            .and(catalog)
    }
}
