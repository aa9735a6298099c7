//! `search`: settings of the forest compared by nested grouped validation.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::train::named;
use crate::commands::Misuse;
use crate::train::search::{self, Plan};
use crate::train::table::{self, Table};
use crate::train::trainer::TrainSettings;

/// Most folds, drawn settings and seeds.
const MOST: usize = 100;

/// Settings of the forest compared by nested grouped validation.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tables that `dataset` or `capture --rows` wrote, taken as one. Rows of the group `lab` train
    /// every forest and are never judged.
    #[arg(value_name = "TABLE", required = true)]
    pub tables: Vec<PathBuf>,
    /// Folds of groups that judge what was chosen without them.
    #[arg(long, default_value_t = Plan::default().outer)]
    pub outer: usize,
    /// Folds of the other groups that choose.
    #[arg(long, default_value_t = Plan::default().inner)]
    pub inner: usize,
    /// Settings drawn from the whole grid, besides the 13 that differ from the present in one value at
    /// most.
    #[arg(long, default_value_t = Plan::default().drawn)]
    pub drawn: usize,
    /// Seeds in a row, from --seed on.
    #[arg(long, default_value_t = Plan::default().seeds)]
    pub seeds: u64,
    /// Seed of everything random.
    #[arg(long, default_value_t = TrainSettings::default().forest.seed)]
    pub seed: u64,
    /// Writes the record as JSON into this file too.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Searches, prints the record as Markdown, and changes nothing else.
///
/// # Errors
/// What was wrong, with file, line and column.
pub fn run(args: &Args) -> anyhow::Result<()> {
    for (name, got, least) in [
        ("--outer", args.outer, 2),
        ("--inner", args.inner, 2),
        ("--drawn", args.drawn, 0),
        (
            "--seeds",
            usize::try_from(args.seeds).unwrap_or(usize::MAX),
            1,
        ),
    ] {
        if !(least..=MOST).contains(&got) {
            bail!(Misuse(format!(
                "{name} {got} is not from {least} to {MOST}"
            )));
        }
    }
    let plan = Plan {
        outer: args.outer,
        inner: args.inner,
        drawn: args.drawn,
        seeds: args.seeds,
    };
    let mut settings = TrainSettings::default();
    settings.forest.seed = args.seed;
    let table = Table::read_all(None, &args.tables)?;
    let told = |done, all| tracing::info!(done, all, "settings scored");
    let record = search::search(&table, &settings, plan, told)
        .with_context(|| format!("cannot search on {}", named(&args.tables)))?;
    if let Some(path) = &args.output {
        let mut json = serde_json::to_string_pretty(&record)?;
        json.push('\n');
        table::replace(path, json.as_bytes())
            .with_context(|| format!("cannot write the record {}", path.display()))?;
    }
    write!(std::io::stdout().lock(), "{record}")?;
    Ok(())
}
