//! The sensor's command line: arguments, logging, exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 misuse. An error is one line on standard error.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use netml_agent::commands::{
    Misuse, capture, diagnose, doctor, enroll, in_one_line, model, replay, run, spool,
};
#[cfg(feature = "train")]
use netml_agent::commands::{cross_validate, dataset, evaluate, search, train};
use tracing_subscriber::EnvFilter;

/// Watches packets, judges flows, tells a collector
#[derive(Debug, Parser)]
#[command(name = "netml-agent", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the packets of this host, live
    Run(run::Args),
    /// Replay capture files through the sensor's own code, without root
    Replay(replay::Args),
    /// Record an interface: packets without payload, labelled feature rows, or both
    Capture(capture::Args),
    /// Get the certificate by which a collector on another host knows this sensor
    Enroll(enroll::Args),
    /// Look at this host: what helps or hinders the sensor, and the command that mends it
    Doctor(doctor::Args),
    /// Trace the path to a host
    Traceroute(diagnose::TracerouteArgs),
    /// Measure latency, jitter and loss to a host
    Probe(diagnose::ProbeArgs),
    /// Look at model files, check them, compare two
    Model(model::Args),
    /// Look at what a sensor keeps on its disk, check it, mend it
    Spool(spool::Args),
    /// Turn captures and labels into a feature table for training
    #[cfg(feature = "train")]
    Dataset(dataset::Args),
    /// Train a model on a feature table
    #[cfg(feature = "train")]
    Train(train::Args),
    /// Judge labelled captures by a model and tell how good it is
    #[cfg(feature = "train")]
    Evaluate(evaluate::Args),
    /// Judge a table's groups by forests that never saw them
    #[cfg(feature = "train")]
    CrossValidate(cross_validate::Args),
    /// Compare settings of the forest, chosen and judged by different groups
    #[cfg(feature = "train")]
    Search(search::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!("{}; see --help", one_line(&error.to_string()));
            return ExitCode::from(2);
        }
        // Help or version, asked for.
        Err(asked) => asked.exit(),
    };
    start_log();
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Enroll(args) => enroll::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Traceroute(args) => diagnose::traceroute(&args),
        Command::Probe(args) => diagnose::probe(&args),
        Command::Model(args) => model::run(&args),
        Command::Spool(args) => spool::run(&args),
        #[cfg(feature = "train")]
        Command::Dataset(args) => dataset::run(&args),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(&args),
        #[cfg(feature = "train")]
        Command::Evaluate(args) => evaluate::run(&args),
        #[cfg(feature = "train")]
        Command::CrossValidate(args) => cross_validate::run(&args),
        #[cfg(feature = "train")]
        Command::Search(args) => search::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", in_one_line(&error));
            ExitCode::from(if error.is::<Misuse>() { 2 } else { 1 })
        }
    }
}

/// What is wrong with the arguments, without the usage below it.
fn one_line(error: &str) -> String {
    let lines: Vec<_> = error
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

/// Logs go to standard error; `RUST_LOG` chooses, INFO of this program otherwise.
fn start_log() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,netml_agent=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
