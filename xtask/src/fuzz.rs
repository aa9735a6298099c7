//! `xtask fuzz`: more of what the fuzz tests of the sensor do in every test run.

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::process::cargo;

/// Parsers that are fuzzed, each by a test of `netml-agent/tests/fuzz.rs`.
const TARGETS: u64 = 4;

/// Options of `xtask fuzz`.
#[derive(Args, Debug)]
pub(crate) struct FuzzArgs {
    /// Mutated inputs over all targets (walk, capture, record, model), a quarter each; a model costs a
    /// hundred times as much as the others
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    executions: u64,
    /// Beginning of the sequence of mutations; the same one gives the same inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs `xtask fuzz`.
///
/// # Errors
/// An input fails; it is printed as a line for the corpus.
pub(crate) fn run(args: &FuzzArgs) -> anyhow::Result<()> {
    let executions = args.executions.div_ceil(TARGETS);
    let status = cargo()
        .args(["test", "--workspace", "--locked", "--test", "fuzz"])
        .args(["--", "--nocapture"])
        .env("NETML_FUZZ_EXECUTIONS", executions.to_string())
        .env("NETML_FUZZ_SEED", args.seed.to_string())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "an input failed, see above");
    Ok(())
}
