//! `model compare`: whether a new model does worse than the old one on captures of one's own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::commands::{Misuse, ReadingArgs};
use crate::model::{self, Model};
use crate::train::compare::{self, Tolerance};
use crate::train::{labels, table};

/// Two models and captures to judge them by.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The model in use; `built-in` for that of this build
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The model to replace it
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Folder the labels' `file` column is relative to; captures that neither model was trained on
    #[arg(long, value_name = "DIR")]
    pub captures: PathBuf,
    /// CSV with the columns file, label, kind, attacker_ips, victim_ips, attack_ports, rest, group
    #[arg(long, value_name = "FILE")]
    pub labels: PathBuf,
    /// What a packet inside another is
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Recall may fall by so many percentage points
    #[arg(long, value_name = "POINTS", default_value_t = Tolerance::default().recall * 100.0)]
    pub recall_tolerance: f64,
    /// The share of benign flows that are SUSPICIOUS may rise by so many
    #[arg(long, value_name = "POINTS", default_value_t = Tolerance::default().false_positives * 100.0)]
    pub alarm_tolerance: f64,
    /// Writes NEW with the outcome in its card into this file: what `run` looks at
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares, prints, writes; fails where the new model is worse.
pub(super) fn run(args: &CompareArgs, out: &mut impl Write) -> anyhow::Result<()> {
    for (name, points) in [
        ("--recall-tolerance", args.recall_tolerance),
        ("--alarm-tolerance", args.alarm_tolerance),
    ] {
        if !(0.0..=100.0).contains(&points) {
            bail!(Misuse(format!("{name} {points} is not from 0 to 100")));
        }
    }
    let load = |path: &Path| -> anyhow::Result<Arc<Model>> {
        let model = if path == Path::new("built-in") {
            model::embedded()
        } else {
            Model::load(path)
        };
        let model = model.with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Arc::new(model))
    };
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    if args.output.is_some()
        && let Some(parent) = new.parent().filter(|parent| parent != old.id())
    {
        bail!(Misuse(format!(
            "{} was made to replace model {parent}, and {} is model {}: compare it with its parent, or name \
             another one by `train --base TABLE --parent FILE`",
            args.new.display(),
            args.old.display(),
            old.id()
        )));
    }
    let captures = labels::read(&args.labels)?;
    let comparison = compare::compare(
        [&old, &new],
        &args.captures,
        &captures,
        args.reading.reading(),
        Tolerance {
            recall: args.recall_tolerance / 100.0,
            false_positives: args.alarm_tolerance / 100.0,
        },
    )?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&comparison)?)?;
    } else {
        write!(out, "{comparison}")?;
    }
    if let Some(path) = &args.output {
        let bytes = new.with_card_entry("comparison", serde_json::to_value(&comparison)?)?;
        // What is written is what loads.
        let written = Model::from_bytes(&bytes)?;
        table::replace(path, &bytes)
            .with_context(|| format!("cannot write the model {}", path.display()))?;
        if !args.json {
            writeln!(out, "wrote {} as model {}", path.display(), written.id())?;
        }
    }
    if comparison.worse.is_empty() {
        return Ok(());
    }
    bail!(
        "model {} is worse than model {}: {}",
        new.id(),
        old.id(),
        comparison.worse.join("; ")
    )
}
