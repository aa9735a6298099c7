//! `dataset`: labelled captures and earlier tables to a feature table, and a report on what is in it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::commands::{Misuse, ReadingArgs};
use crate::train::card::DataCard;
use crate::train::data_report::DataReport;
use crate::train::dataset::{self, Options};
use crate::train::table::Table;
use crate::train::{label_files, labels};

/// Captures and labels to a feature table for `train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder the labels' `file` column is relative to.
    #[arg(
        long,
        value_name = "DIR",
        requires = "labels",
        required_unless_present = "add"
    )]
    pub captures: Option<PathBuf>,
    /// CSV with the columns file, label, kind, attacker_ips, victim_ips, attack_ports, rest, group.
    #[arg(long, value_name = "FILE", requires = "captures")]
    pub labels: Option<PathBuf>,
    /// The table to write: gzip-compressed CSV, which `train` reads, or Parquet where the name ends in
    /// .parquet.
    #[arg(long, short, value_name = "FILE", default_value = "features.csv.gz")]
    pub output: PathBuf,
    /// Most rows of one group and kind.
    #[arg(long, value_name = "ROWS", default_value_t = dataset::CAP_DEFAULT)]
    pub cap: usize,
    /// Leaves out near copies too: flows of one group and kind whose features agree to so many
    /// significant digits. Without it they are counted, to 3 digits, and kept.
    #[arg(
        long,
        value_name = "DIGITS",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(dataset::NEAR_DIGITS_MAX))
    )]
    pub near: Option<u32>,
    /// Captures without a label beside labelled ones are no error.
    #[arg(long)]
    pub skip_unlabelled: bool,
    /// What a packet inside another is.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// A table whose rows come before the new ones in the written table; groups of the same name
    /// become one. Without captures, the tables are put together, written and reported.
    #[arg(long, value_name = "TABLE")]
    pub add: Vec<PathBuf>,
    /// Writes data.json and data.md into this folder: counts by kind, source, year and licence, columns
    /// that say nothing or name the group, flows whose neighbours contradict their label.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Prints what was done to the rows as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Builds and writes the table, then prints its data card.
///
/// # Errors
/// What was wrong, with file, line and column.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.cap == 0 {
        bail!(Misuse("--cap 0 would keep no row; give 1 or more".into()));
    }
    let (mut table, added) = Table::read_with_sources(None, &args.add)?;
    let card = match (&args.captures, &args.labels) {
        (Some(captures), Some(labels)) => {
            let (new, card) = from_captures(args, captures, labels)?;
            if added.is_empty() {
                table = new;
            } else {
                table.add(new);
            }
            Some(card)
        }
        _ => None,
    };
    table.write(&args.output)?;
    let size = std::fs::metadata(&args.output).context("cannot read the table just written")?;
    if let Some(dir) = &args.report {
        let report = DataReport::of(&table, card.clone(), added);
        report.write(dir).context("cannot write the report")?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&card)?)?;
        return Ok(());
    }
    if let Some(card) = &card {
        write!(out, "{card}")?;
    }
    writeln!(
        out,
        "wrote {} ({} rows, {} bytes)",
        args.output.display(),
        table.rows.len(),
        size.len()
    )?;
    if let Some(dir) = &args.report {
        writeln!(out, "wrote data.json and data.md to {}", dir.display())?;
    }
    Ok(())
}

fn from_captures(args: &Args, dir: &Path, labels: &Path) -> anyhow::Result<(Table, DataCard)> {
    let captures = labels::read(labels)?;
    label_files::check_files(labels, dir, &captures, args.skip_unlabelled)?;
    let options = Options {
        cap: args.cap,
        near: args.near,
    };
    let (table, card) = dataset::build(dir, &captures, &options, args.reading.reading())?;
    if table.rows.is_empty() {
        bail!(
            "no row has a known label: check the addresses and ports in {}",
            labels.display()
        );
    }
    Ok((table, card))
}
