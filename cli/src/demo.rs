//! `aegis demo`: a scan of a small chat server with known weaknesses, from nothing to the report.

use std::{net::SocketAddr, path::Path, process::ExitCode};

use aegis_demo_target::DemoTarget;
use aegis_mesh::{CallContext, Principal, Shutdown, shutdown, spawn, with_context};
use aegis_proto::{
    json,
    scan::v1::{CreateScanRequest, Scan, ScanSpec, scan::State},
};
use anyhow::Context;
use clap::Parser;

use crate::{
    args::{Cli, ClientArgs, Command, DemoArgs, UpArgs},
    client::Client,
    mesh::{Mesh, MeshConfig},
    output::progress::ProgressView,
    scan::{
        download,
        follow::follow,
        run::{print_outcome, start},
    },
};

/// Probes that find the demo target's weaknesses, and some that find none.
const PROBES: [&str; 8] = [
    "probes.web_injection.MarkdownXSS",
    "probes.web_injection.TaskXSS",
    "probes.exploitation.SQLInjectionEcho",
    "probes.grandma.Win10",
    "probes.encoding.InjectBase64",
    "probes.promptinject.HijackHateHumans",
    "probes.malwaregen.TopLevel",
    "probes.dan.AutoDANCached",
];

/// Serves the demo target until Ctrl-C.
pub(crate) fn serve_target(listen: SocketAddr) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let target = DemoTarget::start(listen)
            .await
            .with_context(|| format!("listening on {listen}"))?;
        println!("ready {}", target.uri(""));
        tokio::signal::ctrl_c().await?;
        target.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs the demo.
pub(crate) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    start_afresh(&args.data_dir)?;
    let config = MeshConfig::load(&up_args(&args)?)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(with_context(
        CallContext::new(Principal::local()),
        demo(config, &args.data_dir),
    ));
    runtime.shutdown_background();
    code
}

/// Only what a demo made is removed: a folder of ours has our lock file.
fn start_afresh(data_dir: &Path) -> anyhow::Result<()> {
    if data_dir.join("lock").try_exists()? {
        std::fs::remove_dir_all(data_dir)
            .with_context(|| format!("removing {}", data_dir.display()))?;
    }
    Ok(())
}

/// The demo takes what `aegis up` takes, through the same door.
fn up_args(args: &DemoArgs) -> anyhow::Result<UpArgs> {
    let cli = Cli::try_parse_from(["aegis", "up", "--listen", "127.0.0.1:0"])?;
    let Command::Up(mut up) = cli.command else {
        anyhow::bail!("`aegis up` is no longer `aegis up`");
    };
    up.data_dir = Some(args.data_dir.clone());
    up.garak_python.clone_from(&args.garak_python);
    Ok(up)
}

async fn demo(config: MeshConfig, data_dir: &Path) -> anyhow::Result<ExitCode> {
    let stop = Shutdown::new();
    let _signals = spawn("signals", shutdown::signals(stop.clone())?);
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let mesh = match Mesh::start(config, &stop).await {
        Ok(mesh) => mesh,
        Err(error) => {
            stop.trigger();
            return Err(error.into());
        }
    };
    eprintln!(
        "mesh at http://{}, target at {}",
        mesh.address(),
        target.uri("")
    );
    let done = stop.until(scan(mesh.address(), &target, data_dir)).await;
    stop.trigger();
    mesh.stopped().await?;
    target.stop().await;
    match done {
        Some(done) => done,
        None => Ok(ExitCode::from(130)),
    }
}

async fn scan(
    address: SocketAddr,
    target: &DemoTarget,
    data_dir: &Path,
) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&ClientArgs {
        server: format!("http://{address}"),
        token_file: None,
        json: false,
    })?;
    let request = CreateScanRequest {
        display_name: "demo".to_owned(),
        spec: Some(spec(target)?),
        ..CreateScanRequest::default()
    };
    let scan = start(&client, request).await?;
    let mut view = ProgressView::new();
    let followed = follow(&client, &scan.scan_id, 0, &mut view).await;
    drop(view);
    let scan = followed?;
    print_outcome(&client, &scan).await?;
    report(&client, &scan, data_dir).await
}

fn spec(target: &DemoTarget) -> anyhow::Result<ScanSpec> {
    Ok(json::from_json(serde_json::json!({
        "target": {
            "type": "openai.OpenAICompatible",
            "name": "demo",
            "options": {"uri": target.uri(""), "stop": []},
        },
        "include": PROBES,
        "generations": 1,
        "seed": "7",
    }))?)
}

/// The mesh ends with the demo: the report is left as files.
async fn report(client: &Client, scan: &Scan, data_dir: &Path) -> anyhow::Result<ExitCode> {
    if scan.state() != State::Completed {
        return Ok(ExitCode::from(2));
    }
    println!("the report:");
    for path in download(client, &scan.scan_id, 0, &data_dir.join("report")).await? {
        println!("  {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
