//! `cross-validate`: how well a table's groups are judged by forests that never saw them.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::train::{SettingArgs, named};
use crate::commands::Misuse;
use crate::train::cross::{self, SeedReport};
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
    /// Prints all figures as JSON.
    #[arg(long)]
    pub json: bool,
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
    let mut settings = args.settings.settings()?;
    let table = Table::read_all(None, &args.tables)?;
    let mut reports = Vec::new();
    for seed in 0..args.seeds {
        settings.forest.seed = args.settings.seed.wrapping_add(seed);
        let report = cross::validate(&table, &settings)
            .with_context(|| format!("cannot validate on {}", named(&args.tables)))?;
        reports.push(report);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&reports)?)?;
        return Ok(());
    }
    let mut line = |name: &str, figure: &dyn Fn(&SeedReport) -> Option<f64>| {
        writeln!(out, "{name:<52} {}", spread(&reports, figure))
    };
    line("recall, mean over group and kind", &|r| {
        Some(r.macro_recall)
    })?;
    line("false positives, mean over groups", &|r| Some(r.group_fpr))?;
    line("flows of quality A and B: precision", &|r| {
        r.overall.precision
    })?;
    line("  recall", &|r| r.overall.recall)?;
    line("  F1", &|r| r.overall.f1)?;
    line("  PR-AUC", &|r| r.overall.pr_auc)?;
    line("  ROC-AUC", &|r| r.overall.roc_auc)?;
    line("flows of quality C: recall", &|r| r.quality_c.recall)?;
    line("calibration error, 15 bins", &|r| {
        Some(r.calibration.as_ref()?.ece)
    })?;
    line("Brier skill against the share of attack", &|r| {
        Some(r.calibration.as_ref()?.brier_skill)
    })?;
    for rate in reports[0].precision_at.keys() {
        let name = format!("precision where a share of {rate} is attack");
        line(&name, &|r| r.precision_at.get(rate).copied())?;
    }
    for cell in reports[0].recall.keys() {
        line(&format!("recall {cell}"), &|r| r.recall.get(cell)?.recall)?;
    }
    for group in reports[0].false_positives.keys() {
        let name = format!("false positives {group}");
        line(&name, &|r| r.false_positives.get(group)?.fpr)?;
    }
    for baseline in reports[0].baselines.keys() {
        let of = |r: &SeedReport, at: usize| r.baselines.get(baseline).map(|b| b[at]);
        line(&format!("baseline {baseline}: recall"), &|r| of(r, 0))?;
        line(&format!("baseline {baseline}: false positives"), &|r| {
            of(r, 1)
        })?;
    }
    Ok(())
}

/// Mean and range over the seeds, in percent.
fn spread(reports: &[SeedReport], figure: &dyn Fn(&SeedReport) -> Option<f64>) -> String {
    let values: Vec<f64> = reports
        .iter()
        .filter_map(figure)
        .map(|v| v * 100.0)
        .collect();
    if values.is_empty() {
        return "-".into();
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{mean:6.2} % ({low:.2} to {high:.2})")
}
