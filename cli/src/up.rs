//! `aegis up`: the whole mesh, until Ctrl-C.

use std::{path::PathBuf, process::ExitCode};

use aegis_mesh::{CallContext, Principal, Shutdown, shutdown, spawn, telemetry, with_context};

use crate::{
    args::UpArgs,
    import::once::Once,
    mesh::{Mesh, MeshConfig},
};

/// The exit code of a bad configuration (EX_USAGE of sysexits.h).
const EXIT_CONFIG: u8 = 64;

/// Serves until the first SIGINT or SIGTERM; a second ends the process at once.
pub(crate) fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let config = match MeshConfig::load(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    if args.dump_config {
        print!("{}", aegis_mesh::config::dump(&config)?);
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(config, args.import))?;
    // What still runs on a blocking thread has nothing left to say.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: MeshConfig, import: Option<PathBuf>) -> anyhow::Result<()> {
    let _telemetry = telemetry::init("aegis", &config.telemetry)?;
    aegis_mesh::raise_open_files();
    let stop = Shutdown::new();
    let signals = spawn("signals", shutdown::signals(stop.clone())?);
    let context = CallContext::new(Principal::local());
    let once = match import {
        Some(folder) => Once::of(&folder, &config)?,
        None => None,
    };
    with_context(context, async {
        let mesh = match Mesh::start(config, &stop).await {
            Ok(mesh) => mesh,
            Err(error) => {
                stop.trigger();
                return Err(error);
            }
        };
        println!("ready http://{}", mesh.address());
        if let Some(once) = once {
            let run = stop.until(once.run(mesh.address())).await;
            if run.is_none() {
                tracing::info!("the import was stopped, and goes on at the next start");
            }
        }
        stop.triggered().await;
        mesh.stopped().await
    })
    .await?;
    drop(signals);
    Ok(())
}
