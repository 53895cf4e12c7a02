//! One suite, run against the mesh in one process and as five processes over TCP. Real garak, real
//! processes; only the target is ours.

mod artifacts;
mod bad_input;
mod bad_target;
mod cli;
mod custom_probes;
mod fidelity;
mod full;
mod import_cli;
mod import_database;
mod import_up;
mod imports;
mod keeping;
mod lifecycle;
mod memory;
mod old_system;
mod reading;
mod storage;
mod support;
mod up;
mod waiting;
mod watch;
mod watchers;

use std::{pin::Pin, process::ExitCode, sync::Arc};

use aegis_tests::mesh::{Mesh, Way};
use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

type Case = fn(Arc<Mesh>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A test of the suite, by its name.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// This module's part of the suite.
        pub(crate) fn cases() -> Vec<(&'static str, $crate::Case)> {
            vec![$((concat!(module_path!(), "::", stringify!($name)), |mesh| Box::pin(async move { $name(&mesh).await }))),*]
        }
    };
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let suite: Vec<(&'static str, Case)> = [
        lifecycle::cases(),
        watch::cases(),
        artifacts::cases(),
        bad_input::cases(),
        bad_target::cases(),
        cli::cases(),
        fidelity::cases(),
        import_cli::cases(),
        import_database::cases(),
        memory::cases(),
        custom_probes::cases(),
        reading::cases(),
        imports::cases(),
    ]
    .concat();
    let runtime = Arc::new(Runtime::new()?);
    let mut meshes = Vec::new();
    let mut trials = up::trials();
    trials.extend(waiting::trials());
    trials.extend(full::trials());
    trials.extend(storage::trials());
    trials.extend(watchers::trials());
    trials.extend(keeping::trials());
    trials.extend(import_up::trials());
    if !arguments.list {
        for way in Way::ALL {
            meshes.push((way, Arc::new(runtime.block_on(Mesh::start(way))?)));
        }
    }
    for way in Way::ALL {
        let mesh = meshes
            .iter()
            .find(|(one, _)| *one == way)
            .map(|(_, mesh)| Arc::clone(mesh));
        for (name, case) in &suite {
            let (mesh, runtime, case) = (mesh.clone(), Arc::clone(&runtime), *case);
            let name = name.trim_start_matches("e2e::");
            trials.push(Trial::test(format!("{}::{name}", way.name()), move || {
                let Some(mesh) = mesh else {
                    return Err(Failed::from("no mesh was started"));
                };
                runtime.block_on(case(Arc::clone(&mesh))).map_err(|error| {
                    let told = mesh.internal_errors().join("\n");
                    Failed::from(format!("{error:#}\n{told}"))
                })
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    for (_, mesh) in meshes {
        if let Some(mesh) = Arc::into_inner(mesh) {
            mesh.stop()?;
        }
    }
    Ok(conclusion.exit_code())
}
