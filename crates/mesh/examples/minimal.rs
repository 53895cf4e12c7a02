//! The smallest service: health and reflection alone.

use std::{net::SocketAddr, process::ExitCode};

use aegis_mesh::{
    ConfigError, MeshServer, ServerConfig, ServiceConfig, Shutdown, TelemetryConfig, main_with,
};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    /// Whether to ignore the first signal, as a service that hangs does.
    stubborn: bool,
    /// Whether to stay unhealthy; says once more where it listens.
    idle: bool,
}

impl ServiceConfig for Config {
    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn listen(&self) -> SocketAddr {
        self.server.listen
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate()
    }
}

fn main() -> ExitCode {
    main_with("minimal", run)
}

async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let server = MeshServer::builder("minimal", &config.server);
    let health = server.health();
    let listener = tokio::net::TcpListener::bind(config.server.listen).await?;
    let address = listener.local_addr()?;
    println!("{address}");
    match config.idle {
        true => println!("{address}"),
        false => health.set_serving(),
    }
    server.serve(listener, shutdown).await?;
    if config.stubborn {
        println!("stubborn");
        std::future::pending::<()>().await;
    }
    Ok(())
}
