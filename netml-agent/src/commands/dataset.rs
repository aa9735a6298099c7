//! `dataset`: labelled captures to a feature table.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::commands::{Misuse, ReadingArgs};
use crate::train::table::Table;
use crate::train::{dataset, labels};

/// Captures and labels to a feature table for `train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder the labels' `file` column is relative to.
    #[arg(long, value_name = "DIR")]
    pub captures: PathBuf,
    /// CSV with the columns file, label, kind, attacker_ips, victim_ips, attack_ports, rest, group.
    #[arg(long, value_name = "FILE")]
    pub labels: PathBuf,
    /// The table to write (gzip-compressed CSV).
    #[arg(long, short, value_name = "FILE", default_value = "features.csv.gz")]
    pub output: PathBuf,
    /// Most rows of one group and kind.
    #[arg(long, value_name = "ROWS", default_value_t = dataset::CAP_DEFAULT)]
    pub cap: usize,
    /// What a packet inside another is.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// A table whose rows come before the new ones in the written table; groups of the same name
    /// become one.
    #[arg(long, value_name = "TABLE")]
    pub add: Option<PathBuf>,
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
    let captures = labels::read(&args.labels)?;
    let (table, card) =
        dataset::build(&args.captures, &captures, args.cap, args.reading.reading())?;
    if table.rows.is_empty() {
        bail!(
            "no row has a known label: check the addresses and ports in {}",
            args.labels.display()
        );
    }
    let table = match &args.add {
        Some(path) => {
            let mut all = Table::read(path)?;
            all.add(table);
            all
        }
        None => table,
    };
    table.write(&args.output)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&card)?)?;
    } else {
        let size = std::fs::metadata(&args.output).context("cannot read the table just written")?;
        write!(out, "{card}")?;
        writeln!(
            out,
            "wrote {} ({} bytes)",
            args.output.display(),
            size.len()
        )?;
    }
    Ok(())
}
