//! The runner as a process: whatever ends it, none of its processes outlives it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::support::with_environment_of;

const LONG: Duration = Duration::from_secs(120);

/// Starts a runner that finds no mesh, and waits until a child of its garak is at work (trying out
/// plugins, as at every first start).
fn busy(data: &TempDir) -> Child {
    let runner = Command::new(env!("CARGO_BIN_EXE_aegis-garak-runner"))
        .env("AEGIS_GARAK_RUNNER__DATA_DIR", data.path())
        .env("AEGIS_GARAK_RUNNER__SERVER__LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let survey = data.path().join("scratch/survey");
    within(LONG, "a child is at work", || {
        survey.is_dir() && garaks(data.path()).len() > 2
    });
    runner
}

fn garaks(data: &Path) -> Vec<u32> {
    // The environment of every Python process names the data directory, and not the runner's own variable.
    with_environment_of(&format!("PYTHONPATH={}", data.display()))
}

fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(runner: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(runner.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_killed_runner_leaves_no_process() {
    let data = tempfile::tempdir().unwrap();
    let mut runner = busy(&data);
    signal(&runner, Signal::SIGKILL);
    runner.wait().unwrap();
    within(Duration::from_secs(2), "every garak is gone", || {
        garaks(data.path()).is_empty()
    });
}

#[test]
fn a_terminated_runner_ends_well_and_leaves_no_process() {
    let data = tempfile::tempdir().unwrap();
    let mut runner = busy(&data);
    let told = Instant::now();
    signal(&runner, Signal::SIGTERM);
    assert!(runner.wait().unwrap().success());
    assert!(
        told.elapsed() < Duration::from_secs(10),
        "{:?}",
        told.elapsed()
    );
    // The children of a killed child die by the kernel's signal, a moment after it.
    within(Duration::from_secs(2), "every garak is gone", || {
        garaks(data.path()).is_empty()
    });
    let left = std::fs::read_dir(data.path().join("scratch")).unwrap();
    assert_eq!(left.count(), 0);
}
