//! Probes of the validation itself, and of kinds that no forest was shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::classes::class_of;
use super::cross::{Judged, validation};
use super::forest::{self, FitError, Settings, Training};
use super::metrics::Tally;
use super::table::Table;
use super::trainer::TrainSettings;
use super::validate::{self, Judges, flow_scores, shuffle_labels};
use crate::verdict::Verdict;

/// A class of attacks judged by forests that were shown none of it, from any group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unseen {
    /// The class.
    pub class: String,
    /// Groups that hold it.
    pub groups: usize,
    /// Recall of the forest that was shown those of the other groups; equal to `unseen` by
    /// definition where there is no other.
    pub seen: f64,
    /// Recall of the forest that was not.
    pub unseen: f64,
    /// The same with the rules.
    pub unseen_combined: f64,
}

/// What must come out near chance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probes {
    /// ROC-AUC over flows on groups left out, of forests that learnt shuffled labels; about 0.5.
    pub shuffled_roc_auc: Option<f64>,
    /// How well a forest over the same features tells the benign groups apart on captures it did
    /// not see, as the mean over the groups of the share recognised; `None` without two such groups.
    pub group_recognised: Option<f64>,
    /// What guessing would reach.
    pub group_chance: Option<f64>,
    /// The groups told apart: those with two benign captures or more.
    pub groups: Vec<String>,
}

/// Kinds of quality A and B, by class, judged by the first seed's thresholds.
///
/// # Errors
/// [`FitError`] of a forest.
pub fn unseen(
    table: &Table,
    settings: &TrainSettings,
    judged: &Judged,
) -> Result<Vec<Unseen>, FitError> {
    let folds = &judged.judges.folds;
    let class = |row: usize| {
        let row = &table.rows[row];
        row.attack.then(|| class_of(table.kinds.name(row.kind)))
    };
    let fold_of = |row: usize| folds.of_group[table.rows[row].group as usize];
    let is_judged =
        |row: usize| table.rows[row].quality != 'C' && fold_of(row) != validate::IN_NO_FOLD;
    let mut places: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for row in (0..table.rows.len()).filter(|&row| is_judged(row)) {
        if let Some(class) = class(row) {
            places.entry(class).or_default().insert(fold_of(row));
        }
    }
    let mut lines = Vec::new();
    for (name, folds_of_class) in places {
        let mut rows = judged.rows.clone();
        for &fold in &folds_of_class {
            let is_shown = (0..table.rows.len())
                .any(|row| class(row) == Some(name) && fold_of(row) != fold && table.rows[row].fit);
            if !is_shown {
                // The forest of the validation has not seen it either.
                continue;
            }
            let training = Training::new(table, |row| {
                fold_of(row) != fold && class(row) != Some(name)
            })?;
            let settings = Settings {
                seed: judged.seed.wrapping_add(1 + fold as u64),
                ..validation(settings)
            };
            let grown = forest::fit(&training, &settings)?;
            let asked: Vec<usize> = (0..table.rows.len())
                .filter(|&row| fold_of(row) == fold && class(row) == Some(name))
                .collect();
            let features: Vec<_> = asked.iter().map(|&row| table.rows[row].features).collect();
            for (row, (score, _)) in asked.into_iter().zip(grown.judge_all(&features)) {
                rows[row].score = score;
            }
        }
        let flows = flow_scores(table, &rows);
        // Per group and kind: flows, found as seen, unseen, unseen with the rules.
        let mut cells: BTreeMap<(u32, u32), [f64; 4]> = BTreeMap::new();
        for (before, flow) in judged.flows.iter().zip(&flows) {
            let row = flow.rows.start;
            let wanted = is_judged(row) && class(row) == Some(name);
            let Some(cut) = judged.cut(table, row).filter(|_| wanted) else {
                continue;
            };
            let of_row = &table.rows[row];
            let cell = cells.entry((of_row.group, of_row.kind)).or_default();
            let found = flow.score >= cut.suspicious;
            cell[0] += flow.weight;
            for (sum, hit) in cell[1..].iter_mut().zip([
                before.score >= cut.suspicious,
                found,
                found || flow.rule.is_some(),
            ]) {
                *sum += if hit { flow.weight } else { 0.0 };
            }
        }
        let mean = |at: usize| {
            let shares = cells.values().map(|cell| cell[at] / cell[0]);
            shares.sum::<f64>() / cells.len().max(1) as f64
        };
        let groups: BTreeSet<u32> = cells.keys().map(|(group, _)| *group).collect();
        lines.push(Unseen {
            class: name.to_string(),
            groups: groups.len(),
            seen: mean(1),
            unseen: mean(2),
            unseen_combined: mean(3),
        });
    }
    Ok(lines)
}

/// Trees of a probe's forests: enough to find what must not be there.
const PROBE_TREES: usize = 12;

/// Runs the probes.
///
/// # Errors
/// [`FitError`] of a forest.
pub fn probes(
    table: &Table,
    settings: &TrainSettings,
    judged: &Judged,
) -> Result<Probes, FitError> {
    let settings = Settings {
        trees: PROBE_TREES.min(settings.validation_trees),
        ..validation(settings)
    };
    let (groups, recognised) = group_recognised(table, &settings)?;
    Ok(Probes {
        shuffled_roc_auc: shuffled_roc_auc(table, &settings, &judged.judges.folds)?,
        group_chance: recognised.map(|_| 1.0 / groups.len() as f64),
        group_recognised: recognised,
        groups,
    })
}

fn shuffled_roc_auc(
    table: &Table,
    settings: &Settings,
    folds: &validate::Folds,
) -> Result<Option<f64>, FitError> {
    let mut table = table.clone();
    shuffle_labels(&mut table, settings.seed);
    let judges = Judges::grow(&table, folds, settings)?;
    let rows = judges.scores(&table, |row| table.rows[row].features);
    let mut tally = Tally::default();
    for flow in flow_scores(&table, &rows) {
        let attack = table.rows[flow.rows.start].attack;
        tally.add(attack, flow.score, Verdict::Normal, 1.0);
    }
    Ok(tally.metrics().roc_auc)
}

/// Learns the group from every second benign capture of a group and tells it of the others.
fn group_recognised(
    table: &Table,
    settings: &Settings,
) -> Result<(Vec<String>, Option<f64>), FitError> {
    let is_benign = |row: usize| {
        let row = &table.rows[row];
        !row.attack && row.quality != 'C' && !table.is_training_only(row.group)
    };
    let mut captures: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (at, row) in table.rows.iter().enumerate() {
        if is_benign(at) && row.fit {
            captures.entry(row.group).or_default().insert(row.capture);
        }
    }
    captures.retain(|_, captures| captures.len() > 1);
    let names = |table: &Table| {
        let name = |group: &u32| table.groups.name(*group).to_string();
        captures.keys().map(name).collect::<Vec<String>>()
    };
    let groups = names(table);
    if groups.len() < 2 {
        return Ok((groups, None));
    }
    // The group becomes the kind, which the trainer learns; one of them has to be "normal".
    let first = captures.keys().next().copied();
    let mut told = table.clone();
    told.rows
        .retain(|row| !row.attack && row.quality != 'C' && captures.contains_key(&row.group));
    let mut half = BTreeMap::new();
    for of_group in captures.values() {
        for (place, capture) in of_group.iter().enumerate() {
            half.insert(*capture, place % 2);
        }
    }
    for row in &mut told.rows {
        let name = told.groups.name(row.group).to_string();
        row.attack = Some(row.group) != first;
        row.kind = told.kinds.id(&name);
    }
    let training = Training::new(&told, |row| half[&told.rows[row].capture] == 0)?;
    let grown = forest::fit(&training, settings)?;
    let asked: Vec<usize> = (0..told.rows.len())
        .filter(|&row| half[&told.rows[row].capture] == 1)
        .collect();
    let features: Vec<_> = asked.iter().map(|&row| told.rows[row].features).collect();
    let mut shares: BTreeMap<u32, [f64; 2]> = BTreeMap::new();
    for (row, (score, class)) in asked.into_iter().zip(grown.judge_all(&features)) {
        let row = &told.rows[row];
        let want = forest::class_index(&training.classes, told.kinds.name(row.kind), row.attack);
        let got = if score < 0.5 { 0 } else { usize::from(class) };
        let share = shares.entry(row.group).or_default();
        share[0] += f64::from(u8::from(want == got));
        share[1] += 1.0;
    }
    let sum: f64 = shares.values().map(|[right, all]| right / all).sum();
    Ok((groups, Some(sum / shares.len() as f64)))
}
