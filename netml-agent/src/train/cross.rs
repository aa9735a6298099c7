//! Cross-validation as a report: groups judged by forests, thresholds and baselines that never
//! saw them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::baseline::Baseline;
use super::forest::{FitError, Settings, Training};
use super::metrics::{Calibration, Metrics, Tally};
use super::table::Table;
use super::threshold;
use super::trainer::{TrainError, TrainSettings};
use super::validate::{self, FlowScore, Folds, RowScore, flow_scores};
use crate::model::interpolate;
use crate::verdict::Verdict;

/// Base rates that precision is projected to.
const BASE_RATES: [f64; 3] = [1e-2, 1e-3, 1e-4];

/// Figures of one seed.
#[derive(Clone, Debug, Serialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// Flows of labels of quality A, B or not told.
    pub overall: Metrics,
    /// Flows of labels of quality C: sandbox runs, where all traffic is called an attack.
    pub quality_c: Metrics,
    /// Mean over group and kind of the recall.
    pub macro_recall: f64,
    /// Mean over groups of the share of benign flows called SUSPICIOUS, captures alike.
    pub group_fpr: f64,
    /// Calibration of the combined score's probability on the groups left out, each flow weighed as in
    /// the two means, attack and benign in the reference share; `None` where one class is missing.
    pub calibration: Option<Calibration>,
    /// Precision where one flow in so many is an attack, by macro recall and mean rate.
    pub precision_at: BTreeMap<String, f64>,
    /// By group and kind of attack.
    pub recall: BTreeMap<String, Metrics>,
    /// By group, benign flows.
    pub false_positives: BTreeMap<String, Metrics>,
    /// The same two means, by baseline: recall, false positives.
    pub baselines: BTreeMap<&'static str, [f64; 2]>,
}

/// Validates with one seed.
///
/// # Errors
/// [`TrainError`] as in training.
pub fn validate(table: &Table, settings: &TrainSettings) -> Result<SeedReport, TrainError> {
    let seed = settings.forest.seed;
    let folds = Folds::new(table, settings.folds, seed).map_err(TrainError::Groups)?;
    let forest = Settings {
        trees: settings.validation_trees,
        ..settings.forest.clone()
    };
    let rows = validate::out_of_fold(table, &folds, &forest)?;
    let flows = flow_scores(table, &rows);
    let fold_of = |flow: &FlowScore| folds.of_group[table.rows[flow.rows.start].group as usize];
    let cuts: Vec<_> = (0..folds.count)
        .map(|fold| {
            // What judges a fold was chosen without its scores.
            let others: Vec<FlowScore> = flows
                .iter()
                .filter(|flow| fold_of(flow) != fold)
                .cloned()
                .collect();
            let wanted = |row: usize| folds.of_group[table.rows[row].group as usize] != fold;
            threshold::choose_among(table, &rows, &others, &settings.budget, wanted)
        })
        .collect();
    let by_forest = |flow: &FlowScore| flow.score >= cuts[fold_of(flow)].suspicious;
    // As the sensor combines them: where a rule speaks, its score counts if it is higher.
    let combined = |flow: &FlowScore| {
        let rule = f32::midpoint(cuts[fold_of(flow)].suspicious, 1.0);
        let floor = if flow.by_rule { rule } else { 0.0 };
        flow.score.max(floor)
    };
    let verdict = |flow: &FlowScore| {
        let cut = &cuts[fold_of(flow)];
        match combined(flow) {
            score if score >= cut.suspicious => Verdict::Suspicious,
            score if score >= cut.unsure => Verdict::Unsure,
            _ => Verdict::Normal,
        }
    };
    let mut tallies: [Tally; 2] = Default::default();
    let mut recall: BTreeMap<String, Tally> = BTreeMap::new();
    let mut false_positives: BTreeMap<String, Tally> = BTreeMap::new();
    for flow in &flows {
        let row = &table.rows[flow.rows.start];
        let (attack, score, said) = (row.attack, combined(flow), verdict(flow));
        tallies[usize::from(row.quality == 'C')].add(attack, score, said, flow.weight);
        let group = table.groups.name(row.group);
        let tally = if attack {
            let cell = format!("{group} {}", table.kinds.name(row.kind));
            recall.entry(cell).or_default()
        } else {
            false_positives.entry(group.to_string()).or_default()
        };
        tally.add(attack, score, said, flow.weight);
    }
    let figures = |tallies: BTreeMap<String, Tally>| -> BTreeMap<String, Metrics> {
        tallies
            .into_iter()
            .map(|(name, tally)| (name, tally.metrics()))
            .collect()
    };
    let suspicious: Vec<bool> = flows
        .iter()
        .map(|f| verdict(f) == Verdict::Suspicious)
        .collect();
    let [macro_recall, group_fpr] = means(table, &flows, &suspicious);
    let share = settings.budget.reference_share;
    let attack_weights = threshold::attack_weights(table, &flows);
    let benign_weights = threshold::benign_weights(table, &flows);
    let judged = flows.iter().zip(attack_weights.iter().zip(&benign_weights));
    let calibration = Calibration::of(judged.map(|(flow, (attack, benign))| {
        let score = combined(flow);
        let probability = interpolate(&cuts[fold_of(flow)].calibration, score);
        let is_attack = table.rows[flow.rows.start].attack;
        let weight = share * attack + (1.0 - share) * benign;
        (f64::from(probability), is_attack, weight)
    }));
    let mut baselines = BTreeMap::new();
    let hits: Vec<bool> = flows.iter().map(by_forest).collect();
    baselines.insert("forest alone", means(table, &flows, &hits));
    for baseline in Baseline::ALL {
        let answers = answers(table, &folds, &forest, baseline)?;
        let flows = flow_scores(table, &answers);
        let hits: Vec<bool> = flows.iter().map(|flow| flow.score > 0.5).collect();
        baselines.insert(baseline.name(), means(table, &flows, &hits));
    }
    let precision = |rate: &f64| {
        let (hits, alarms) = (macro_recall * rate, group_fpr * (1.0 - rate));
        (
            rate.to_string(),
            if hits > 0.0 {
                hits / (hits + alarms)
            } else {
                0.0
            },
        )
    };
    Ok(SeedReport {
        seed,
        overall: tallies[0].metrics(),
        quality_c: tallies[1].metrics(),
        macro_recall,
        group_fpr,
        calibration,
        precision_at: BASE_RATES.iter().map(precision).collect(),
        recall: figures(recall),
        false_positives: figures(false_positives),
        baselines,
    })
}

/// Answers of a baseline to every row, learnt without its fold.
fn answers(
    table: &Table,
    folds: &Folds,
    settings: &Settings,
    baseline: Baseline,
) -> Result<Vec<RowScore>, FitError> {
    let fold_of = |row: usize| folds.of_group[table.rows[row].group as usize];
    let mut answers = vec![RowScore::default(); table.rows.len()];
    for fold in 0..folds.count {
        let training = Training::new(table, |row| fold_of(row) != fold)?;
        let rows: Vec<usize> = (0..table.rows.len())
            .filter(|&r| fold_of(r) == fold)
            .collect();
        let given = baseline.answer(&training, settings, table, &rows)?;
        for (row, answer) in rows.into_iter().zip(given) {
            answers[row] = answer;
        }
    }
    Ok(answers)
}

/// Mean recall over group and kind, and mean false positive rate over groups.
fn means(table: &Table, flows: &[FlowScore], hits: &[bool]) -> [f64; 2] {
    let sum = |weights: Vec<f64>| -> f64 {
        let hit = weights.into_iter().zip(hits).filter(|(_, hit)| **hit);
        hit.map(|(weight, _)| weight).sum()
    };
    [
        sum(threshold::attack_weights(table, flows)),
        sum(threshold::benign_weights(table, flows)),
    ]
}
