//! The agent as a process: what it prints, how it ends, what a collector gets from it.
#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside #[test]")]

mod collector;
mod doctor;
mod fixture;
mod help;
mod links;
mod misuse;
mod model;
mod path;
mod reload;
mod replay;
mod stream;

use std::process::{Command, Output};

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
