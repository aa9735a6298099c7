//! `train`: a feature table to a model file.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::commands::Misuse;
use crate::model::{self, Model};
use crate::train::classes::{CLASS_ROWS_MIN, OTHER};
use crate::train::table::{self, Table};
use crate::train::trainer::{self, TrainSettings};

/// A feature table to a model file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tables that `dataset` or `capture --rows` wrote, taken as one. Rows of the group `lab` train and
    /// take no part in thresholds and calibration.
    #[arg(value_name = "TABLE", required = true)]
    pub tables: Vec<PathBuf>,
    /// The table of the model to adapt: its rows come first, and the groups of the others, own traffic,
    /// must not be among its own. The model card tells what was added.
    #[arg(long, value_name = "TABLE")]
    pub base: Option<PathBuf>,
    /// The model that the new one is to replace, as its card will tell: `run` takes it once `model
    /// compare` has found it no worse. The built-in one where only --base is given.
    #[arg(long, value_name = "FILE")]
    pub parent: Option<PathBuf>,
    /// The model file to write.
    #[arg(long, short, value_name = "FILE", default_value = "netml.model")]
    pub output: PathBuf,
    /// How it is trained.
    #[command(flatten)]
    pub settings: SettingArgs,
}

/// What `train` and `cross-validate` have in common.
#[derive(Debug, clap::Args)]
pub struct SettingArgs {
    /// Seed of everything random.
    #[arg(long, default_value_t = TrainSettings::default().forest.seed)]
    pub seed: u64,
    /// Trees of the forest, 1 to 512.
    #[arg(long, default_value_t = TrainSettings::default().forest.trees)]
    pub trees: usize,
    /// Trees of each forest that judges groups left out, 1 to 512.
    #[arg(long, default_value_t = TrainSettings::default().validation_trees)]
    pub validation_trees: usize,
    /// Folds of whole groups for the thresholds; 0 leaves out one group at a time.
    #[arg(long, default_value_t = TrainSettings::default().folds)]
    pub folds: usize,
    /// Most benign flows called SUSPICIOUS, in percent, as the mean over groups left out.
    #[arg(long, value_name = "PERCENT", default_value_t = TrainSettings::default().budget.false_positive_rate * 100.0)]
    pub false_positives: f64,
    /// Most false alarms per day of an active host.
    #[arg(long, value_name = "ALARMS", default_value_t = TrainSettings::default().budget.alarms_per_host_day)]
    pub alarms_per_host_day: f64,
}

impl SettingArgs {
    /// Checked settings.
    ///
    /// # Errors
    /// [`Misuse`] naming the option and its range.
    pub fn settings(&self) -> anyhow::Result<TrainSettings> {
        for (name, trees) in [
            ("--trees", self.trees),
            ("--validation-trees", self.validation_trees),
        ] {
            if !(1..=512).contains(&trees) {
                bail!(Misuse(format!("{name} {trees} is not from 1 to 512")));
            }
        }
        if !(0.0..=50.0).contains(&self.false_positives) {
            let got = self.false_positives;
            bail!(Misuse(format!(
                "--false-positives {got} is not from 0 to 50"
            )));
        }
        if !self.alarms_per_host_day.is_finite() || self.alarms_per_host_day < 0.0 {
            let got = self.alarms_per_host_day;
            bail!(Misuse(format!("--alarms-per-host-day {got} is below 0")));
        }
        let mut settings = TrainSettings {
            validation_trees: self.validation_trees,
            folds: self.folds,
            ..TrainSettings::default()
        };
        settings.forest.seed = self.seed;
        settings.forest.trees = self.trees;
        settings.budget.false_positive_rate = self.false_positives / 100.0;
        settings.budget.alarms_per_host_day = self.alarms_per_host_day;
        Ok(settings)
    }
}

/// Files in one line.
pub(super) fn named(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(" and ")
}

/// Trains, writes the model and tells its thresholds.
///
/// # Errors
/// What was wrong, with file, line and column.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = args.settings.settings()?;
    let table = Table::read_all(args.base.as_deref(), &args.tables)?;
    let parent = match (&args.parent, &args.base) {
        (Some(path), _) => {
            let parent = Model::load(path);
            Some(parent.with_context(|| format!("cannot use the parent {}", path.display()))?)
        }
        (None, Some(_)) => Some(model::embedded().context("cannot use the built-in model")?),
        (None, None) => None,
    };
    let trained = trainer::train(&table, &settings)
        .with_context(|| format!("cannot train on {}", named(&args.tables)))?;
    let mut bytes = trained.bytes;
    // What is written is what loads.
    let mut model = Model::from_bytes(&bytes)?;
    if let Some(parent) = &parent {
        bytes = model.with_card_entry("parent", json!({ "model": parent.id() }))?;
        model = Model::from_bytes(&bytes)?;
    }
    table::replace(&args.output, &bytes)
        .with_context(|| format!("cannot write the model {}", args.output.display()))?;
    let cut = &trained.thresholds;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "model {}: {} trees, {} bytes, classes {}",
        model.id(),
        settings.forest.trees,
        bytes.len(),
        model.classes().join(", ")
    )?;
    writeln!(
        out,
        "SUSPICIOUS from {:.3}, UNSURE from {:.3}; on groups left out of training: {:.2} % of benign flows \
         (mean over groups), {:.1} false alarms per host-day (over {:.1} host-days)",
        cut.suspicious,
        cut.unsure,
        cut.false_positive_rate * 100.0,
        cut.alarms_per_host_day,
        cut.host_days
    )?;
    writeln!(out, "wrote {}", args.output.display())?;
    for (class, rows) in &trained.rare {
        writeln!(
            out,
            "warning: {rows} rows of {class} are too few for a class of its own ({CLASS_ROWS_MIN}): told as {OTHER}"
        )?;
    }
    if let Some(parent) = &parent {
        writeln!(
            out,
            "to replace model {}: `run` takes it once `model compare` has found it no worse",
            parent.id()
        )?;
    }
    Ok(())
}
