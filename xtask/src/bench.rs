//! `xtask bench`: absolute speeds, with the machine they were measured on.
//!
//! Absolute times live here and not in tests, which assert counts and ratios. Results are copied
//! into `docs/performance.md` by whoever measured them.

mod live;
mod live_frames;
mod pair;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::process::{cargo, target_dir, workspace};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// Kernel cost of a frame and the live sensor (both root), and from a file to verdicts stage by
    /// stage
    Capture,
    /// Of these the live sensor alone (root)
    Live,
    /// From a sensor's export to the collector's disk, by TLS and in plain text
    Link,
    /// The forest by itself
    Model,
    /// The whole sensor over a capture file, start of the program included
    Replay,
    /// The collector's store: taking records, answering beside it, what they cost
    Store,
}

/// Options of `xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What is measured; without it everything, and whatever else is a bench
    #[arg(value_enum)]
    subject: Option<Subject>,
    /// Capture to replay; without it the one of the repository
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// Rounds of the replay and of bulk TCP, odd, so that there is a median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Records in the store that is asked
    #[arg(long, value_name = "N", default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    rows: u64,
    /// Of the live sensor this part only
    #[arg(long, value_enum)]
    part: Option<live::Part>,
}

/// Runs `xtask bench`.
///
/// # Errors
/// A build or a bench fails.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    println!("{}", machine());
    match args.subject {
        None => {
            bench(&["--benches"])?;
            replay(args)?;
            link()?;
            live(args)
        }
        Some(Subject::Capture) => {
            bench(&["--bench", "kernel", "--bench", "pipeline"])?;
            live(args)
        }
        Some(Subject::Live) => live(args),
        Some(Subject::Link) => link(),
        Some(Subject::Model) => bench(&["--bench", "model"]),
        Some(Subject::Replay) => replay(args),
        Some(Subject::Store) => {
            let rows = args.rows.to_string();
            bench(&["--bench", "store", "--", "--rows", &rows])
        }
    }
}

/// Benches that measure by themselves.
fn bench(which: &[&str]) -> anyhow::Result<()> {
    let status = cargo()
        .args(["bench", "--quiet", "--locked", "--workspace"])
        .args(which)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "a bench failed");
    Ok(())
}

/// What a collector takes and what it costs, in tests that measure.
fn link() -> anyhow::Result<()> {
    let status = cargo()
        .args(["test", "--quiet", "--locked", "--workspace", "--release"])
        .args(["--test", "process"])
        .args(["link_rates", "--", "--ignored", "--nocapture"])
        .args(["--test-threads", "1"])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

/// The release build of the sensor.
fn build() -> anyhow::Result<()> {
    let status = cargo()
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "netml-agent",
        ])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(())
}

/// The whole sensor on a wire of its own.
fn live(args: &BenchArgs) -> anyhow::Result<()> {
    build()?;
    live::run(args.part, args.rounds)
}

/// The whole replay of a capture file, with and without the forest in turn, so that a slow moment
/// of the machine hits both alike.
fn replay(args: &BenchArgs) -> anyhow::Result<()> {
    build()?;
    let capture = args
        .capture
        .clone()
        .unwrap_or_else(|| workspace().join(crate::run::BUNDLED));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut packets = 0;
    for _ in 0..args.rounds {
        for (seconds, flag) in [(&mut with, None), (&mut without, Some("--no-model"))] {
            let begin = Instant::now();
            let output = Command::new(target_dir().join("release/netml-agent"))
                .arg("replay")
                .args(flag)
                .arg(&capture)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .output()
                .context("cannot run netml-agent")?;
            seconds.push(begin.elapsed().as_secs_f64());
            let log = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "the replay failed: {log}");
            packets = crate::e2e::packets_in_books(&log);
        }
    }
    println!(
        "replay of {} ({packets} packets, start of the program included), {} rounds:",
        capture.display(),
        args.rounds
    );
    for (name, seconds) in [
        ("with the forest", &mut with),
        ("without a model", &mut without),
    ] {
        seconds.sort_by(f64::total_cmp);
        let (median, least, most) = (
            seconds[seconds.len() / 2],
            seconds[0],
            seconds[seconds.len() - 1],
        );
        println!(
            "  {name}: median {median:.3} s ({:.0} packets/s), {least:.3} to {most:.3} s",
            packets as f64 / median
        );
    }
    Ok(())
}

/// Kernel, processor and cores.
fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("machine: {model}, {cores} cores, Linux {}", kernel.trim())
}
