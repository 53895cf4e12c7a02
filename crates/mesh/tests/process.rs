//! A whole service process: exit codes and signals, by the example `minimal`.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn minimal() -> Command {
    // target/debug/deps/process-… -> target/debug/examples/minimal
    let test = std::env::current_exe().expect("this test");
    let profile = test.ancestors().nth(2).expect("a profile's folder");
    let mut command = Command::new(PathBuf::from(profile).join("examples/minimal"));
    command
        .env_clear()
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

struct Running(Child);

impl Running {
    /// Starts it and waits for a line on stdout.
    fn start(mut command: Command) -> (Self, BufReader<std::process::ChildStdout>) {
        let mut child = command.spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut address = String::new();
        lines.read_line(&mut address).expect("a line");
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        (Self(child), lines)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("sent");
    }

    fn exit_code(mut self) -> Option<i32> {
        self.0.wait().expect("ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is gone already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn output(mut command: Command) -> Output {
    command.output().expect("runs")
}

#[test]
fn the_first_signal_ends_it_well() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (running, _) = Running::start(minimal());
        running.signal(signal);
        assert_eq!(running.exit_code(), Some(0));
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let mut command = minimal();
    command.env("AEGIS_MINIMAL__STUBBORN", "true");
    let (running, mut lines) = Running::start(command);
    running.signal(Signal::SIGINT);
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line, "stubborn\n", "the first signal was noticed");
    running.signal(Signal::SIGINT);
    assert_eq!(running.exit_code(), Some(130));
}

#[test]
fn health_is_asked_of_what_runs_with_the_same_configuration() {
    let ask = |address: &str| {
        let mut command = minimal();
        command.env("AEGIS_MINIMAL__SERVER__LISTEN", address);
        command.arg("--health");
        output(command)
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let nobody = ask(&address);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(!nobody.stderr.is_empty());

    let mut serving = minimal();
    serving.env("AEGIS_MINIMAL__SERVER__LISTEN", &address);
    let (running, _lines) = Running::start(serving);
    let served = ask(&address);
    assert_eq!(served.status.code(), Some(0), "{served:?}");

    let mut idle = minimal();
    idle.env("AEGIS_MINIMAL__IDLE", "true");
    let (_idle, mut lines) = Running::start(idle);
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    let refused = ask(line.trim());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("NOT_SERVING"), "{said}");

    let unknown = ask("127.0.0.1:0");
    assert_eq!(unknown.status.code(), Some(1));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn a_bad_configuration_is_64_and_says_why() {
    for (name, value, says) in [
        ("AEGIS_MINIMAL__COLOUR", "red", "`colour`"),
        ("AEGIS_MINIMAL__SERVER__LISTEN", "0.0.0.0:0", "server.token"),
        (
            "AEGIS_MINIMAL__TELEMETRY__LOG_FILTER",
            "a=b=c",
            "log_filter",
        ),
    ] {
        let mut command = minimal();
        command.env(name, value);
        let output = output(command);
        assert_eq!(output.status.code(), Some(64));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_run_that_fails_is_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = minimal();
    command.env("AEGIS_MINIMAL__SERVER__LISTEN", address);
    assert_eq!(output(command).status.code(), Some(1));
}

#[test]
fn a_dump_shows_the_whole_configuration_without_secrets() {
    let mut command = minimal();
    command
        .env("AEGIS_MINIMAL__SERVER__TOKEN", "hunter2")
        .arg("--dump-config");
    let output = output(command);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("token = \"***\"") && text.contains("[telemetry]"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}
