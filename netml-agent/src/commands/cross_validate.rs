//! `cross-validate`: how well a table's groups are judged by forests that never saw them.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::train::{SettingArgs, named};
use crate::commands::Misuse;
use crate::train::report::{self, Extent, markdown, view};
use crate::train::table::Table;

/// Most seeds of one report.
const SEEDS_MAX: u64 = 20;

/// How well a table's groups are judged by forests that never saw them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tables that `dataset` or `capture --rows` wrote, taken as one. Rows of the group `lab` train
    /// every forest and are never judged.
    #[arg(value_name = "TABLE", required = true)]
    pub tables: Vec<PathBuf>,
    /// Seeds in a row, from --seed on; figures are given for each and as mean and range.
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// How the forests are trained.
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Prints all figures as JSON instead of Markdown.
    #[arg(long)]
    pub json: bool,
    /// Writes report.json, report.md and report.html into this folder, with importances, kinds that no
    /// forest was shown and probes besides; takes about twice as long
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    pub report: Option<PathBuf>,
}

/// Validates and prints the figures.
///
/// # Errors
/// What was wrong, with file, line and column.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if !(1..=SEEDS_MAX).contains(&args.seeds) {
        bail!(Misuse(format!(
            "--seeds {} is not from 1 to {SEEDS_MAX}",
            args.seeds
        )));
    }
    let settings = args.settings.settings()?;
    let table = Table::read_all(None, &args.tables)?;
    let seeds: Vec<u64> = (0..args.seeds)
        .map(|seed| args.settings.seed.wrapping_add(seed))
        .collect();
    let extent = match args.report {
        Some(_) => Extent::Whole,
        None => Extent::Plain,
    };
    let report = report::build(&table, &settings, &seeds, extent)
        .with_context(|| format!("cannot validate on {}", named(&args.tables)))?;
    let mut out = std::io::stdout().lock();
    if let Some(dir) = &args.report {
        report.write(dir).context("cannot write the report")?;
        let dir = dir.display();
        writeln!(out, "wrote report.json, report.md and report.html to {dir}")?;
    } else if args.json {
        write!(out, "{}", report.json()?)?;
    } else {
        let sections = view::sections(&report);
        write!(out, "{}", markdown::render(view::title(&report), &sections))?;
    }
    Ok(())
}
