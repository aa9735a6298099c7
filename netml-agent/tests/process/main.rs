//! The agent as a process: what it prints, how it ends, what a collector gets from it.
#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside #[test]")]

mod collector;
#[cfg(feature = "train")]
mod dataset;
mod doctor;
mod fixture;
mod health;
mod help;
mod links;
mod misuse;
mod model;
#[cfg(feature = "train")]
mod own_traffic;
mod path;
mod reload;
mod replay;
mod spool;
mod spool_rates;
mod stream;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// The program under test.
fn agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netml-agent"));
    command.env_remove("RUST_LOG");
    command
}

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Output {
    agent().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A child that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone where the test went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A sensor on the loopback interface, once it watches, and what it says after that; `None` without
/// the rights to, which `xtask test` as root does not accept.
fn watching_lo(arguments: &[&str]) -> Option<(Running, Lines<BufReader<ChildStderr>>)> {
    watching_lo_with(arguments, &[])
}

/// The same, with variables of its environment.
fn watching_lo_with(
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Option<(Running, Lines<BufReader<ChildStderr>>)> {
    let mut child = Running(
        agent()
            .envs(environment.iter().copied())
            .args(["run", "--interface", "lo"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let started = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("watching") || line.starts_with("error: "))
        .unwrap();
    if started.contains("no privilege") {
        assert!(
            std::env::var_os("NETML_REQUIRE_ALL").is_none_or(|value| value != "1"),
            "{started}"
        );
        eprintln!("skipped: {started}");
        return None;
    }
    assert!(started.contains("watching"), "{started}");
    Some((child, lines))
}
