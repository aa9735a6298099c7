//! `evaluate`: a given model against labelled captures.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::ReadingArgs;
use crate::model::{self, Model};
use crate::train::report::{markdown, view};
use crate::train::{evaluate, labels};

/// A given model against labelled captures.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model file; without it the built-in model is judged.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Folder the labels' `file` column is relative to.
    #[arg(long, value_name = "DIR")]
    pub captures: PathBuf,
    /// CSV with the columns file, label, kind, attacker_ips, victim_ips, attack_ports, rest, group.
    #[arg(long, value_name = "FILE")]
    pub labels: PathBuf,
    /// What a packet inside another is.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Prints all figures as JSON.
    #[arg(long)]
    pub json: bool,
    /// Writes report.json, report.md and report.html into this folder instead: the figures with
    /// intervals, by host, over time and by kind told.
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    pub report: Option<PathBuf>,
}

/// Judges the captures and prints the figures.
///
/// # Errors
/// What was wrong, with file and line.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let model = match &args.model {
        Some(path) => {
            Model::load(path).with_context(|| format!("cannot use the model {}", path.display()))?
        }
        None => model::embedded().context("cannot use the built-in model")?,
    };
    let captures = labels::read(&args.labels)?;
    let report = evaluate::evaluate(
        &Arc::new(model),
        &args.captures,
        &captures,
        args.reading.reading(),
    )?;
    let mut out = std::io::stdout().lock();
    if let Some(dir) = &args.report {
        let written = report.report.write(dir);
        written.context("cannot write the report")?;
        let dir = dir.display();
        writeln!(out, "wrote report.json, report.md and report.html to {dir}")?;
    } else if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        let sections = view::sections(&report.report);
        let told = markdown::render(view::title(&report.report), &sections);
        write!(out, "{report}\n{told}")?;
    }
    Ok(())
}
