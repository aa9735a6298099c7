//! A feature table to a model: trees from all groups, thresholds from groups left out.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};

#[cfg(doc)]
use super::classes::OTHER;
use super::classes::class_of;
use super::forest::{self, FitError, LEFT_OUT, Settings, Training};
use super::importance;
use super::table::Table;
use super::tables;
use super::threshold::{self, Budget, Thresholds};
use super::validate::{self, Folds, Judges};
use crate::flow::schema;
use crate::model::{
    Judgement, Model, ModelError, ModelParts, SELF_TEST_ROWS_MAX, SelfTest, encode,
};

/// Rows of a kind in the self-test of a model; a row takes about half a kilobyte of its card.
const SELF_TEST_ROWS_OF_KIND: usize = 2;

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TrainSettings {
    /// How the trees are grown.
    pub forest: Settings,
    /// Trees of each validation forest.
    pub validation_trees: usize,
    /// Folds of the validation; 0 leaves out one group at a time.
    pub folds: usize,
    /// What the thresholds may cost.
    pub budget: Budget,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            forest: Settings::default(),
            validation_trees: 30,
            folds: 0,
            budget: Budget::default(),
        }
    }
}

/// Why no model came of a table.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// No forest.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// Too few groups to leave one out.
    #[error("{0}")]
    Groups(String),
    /// The model breaks a rule of its format.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The table cannot be written for its digest.
    #[error("cannot compute the digest of the table: {0}")]
    Digest(std::io::Error),
}

/// A trained model as the bytes of its file, with what its thresholds rest on.
pub struct Trained {
    /// The file.
    pub bytes: Vec<u8>,
    /// Thresholds and their cost.
    pub thresholds: Thresholds,
    /// The model card.
    pub card: serde_json::Value,
    /// Classes of attack too rare for one of their own, told as [`OTHER`], with their rows.
    pub rare: Vec<(String, usize)>,
}

/// Trains. The same table and settings give the same bytes, on any number of cores.
///
/// # Errors
/// [`TrainError`].
pub fn train(table: &Table, settings: &TrainSettings) -> Result<Trained, TrainError> {
    let folds =
        Folds::new(table, settings.folds, settings.forest.seed).map_err(TrainError::Groups)?;
    let training = Training::new(table, |_| true)?;
    training.check_size()?;
    let validation = Settings {
        trees: settings.validation_trees,
        ..settings.forest.clone()
    };
    let judges = Judges::grow(table, &folds, &validation)?;
    let rows = judges.scores(table, |row| table.rows[row].features);
    let flows = validate::flow_scores(table, &rows);
    let thresholds = threshold::choose(table, &rows, &flows, &settings.budget);
    let forest = forest::fit(&training, &settings.forest)?;
    let mut card = card(table, settings, &folds, &thresholds, &training.classes)?;
    tables::tell(table, &mut card["data"]);
    let rate = settings.budget.false_positive_rate;
    card["importances"] = importance::card(table, &training, &forest, &judges, rate);
    let rare = rare(table, &training.classes);
    let mut parts = ModelParts {
        schema_digest: schema::digest(),
        classes: training.classes,
        suspicious: thresholds.suspicious,
        unsure: thresholds.unsure,
        reference_share: settings.budget.reference_share as f32,
        calibration: thresholds.calibration.clone(),
        false_alarms: thresholds.false_alarms.clone(),
        card: card.to_string(),
        forest,
    };
    card["self_test"] = self_test(table, &Model::from_bytes(&encode(&parts)?)?).to_json();
    parts.card = card.to_string();
    Ok(Trained {
        bytes: encode(&parts)?,
        thresholds,
        card,
        rare,
    })
}

/// Classes of attack of the table that are not among a model's, with the rows fitted.
fn rare(table: &Table, classes: &[String]) -> Vec<(String, usize)> {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for row in table.rows.iter().filter(|row| row.attack && row.fit) {
        let class = class_of(table.kinds.name(row.kind));
        *rows.entry(class).or_default() += 1;
    }
    let told = |class: &str| classes.iter().any(|known| known == class);
    rows.into_iter()
        .filter(|(class, _)| !told(class))
        .map(|(class, rows)| (class.to_string(), rows))
        .collect()
}

/// Rows of the table, the first [`SELF_TEST_ROWS_OF_KIND`] of each kind, and the model's answers.
fn self_test(table: &Table, model: &Model) -> SelfTest {
    let mut taken = vec![0; table.kinds.all().len()];
    let rows: Vec<_> = table
        .rows
        .iter()
        .filter(|row| {
            let taken = &mut taken[row.kind as usize];
            *taken += 1;
            *taken <= SELF_TEST_ROWS_OF_KIND
        })
        .map(|row| row.features)
        .take(SELF_TEST_ROWS_MAX)
        .collect();
    let mut answers = vec![Judgement::default(); rows.len()];
    model.judge(&rows, &mut answers);
    SelfTest {
        scores: answers.iter().map(|answer| answer.score).collect(),
        classes: answers.iter().map(|answer| answer.class).collect(),
        rows,
    }
}

/// What a reader of the file should know. No date: the same table gives the same bytes.
fn card(
    table: &Table,
    settings: &TrainSettings,
    folds: &Folds,
    thresholds: &Thresholds,
    classes: &[String],
) -> Result<serde_json::Value, TrainError> {
    let table_bytes = table.to_bytes().map_err(TrainError::Digest)?;
    let digest = crate::model::hex(&Sha256::digest(&table_bytes));
    Ok(json!({
        "name": "netml random forest",
        "trainer": format!("netml-agent {} with smartcore 0.7", env!("CARGO_PKG_VERSION")),
        "settings": settings,
        "classes": classes,
        "features_not_asked": LEFT_OUT,
        "data": {
            "table_sha256": digest,
            "rows": table.rows.len(),
            "captures": table.captures.all().len(),
            "groups": table.groups.all(),
            "kinds": table.kinds.all(),
        },
        "thresholds": {
            "from": format!("scores of groups left out of training, {} folds", folds.count),
            "suspicious": thresholds.suspicious,
            "unsure": thresholds.unsure,
            "false_positive_rate_over_groups": thresholds.false_positive_rate,
            "false_alarms_per_host_day": thresholds.alarms_per_host_day,
            "host_days_observed": thresholds.host_days,
        },
        "limits": "Kinds of attack are found where another network's capture of the kind was in \
                   training; see docs/model.md for figures by kind.",
    }))
}

#[cfg(test)]
#[path = "trainer_tests.rs"]
mod tests;
