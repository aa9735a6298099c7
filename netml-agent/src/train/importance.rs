//! What a forest rests on: importance by impurity, and by permutation on groups left out.

use serde::Serialize;

use super::forest::{ClassWeights, Training, asked_features};
use super::random::Random;
use super::table::Table;
use super::threshold;
use super::validate::{Judges, RowScore, flow_scores};
use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;
use crate::model::Forest;

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Importance {
    /// Its name.
    pub feature: &'static str,
    /// Its part of all decrease of Gini impurity over the training rows, 0 to 1.
    pub impurity: f64,
    /// By how much mean recall over group and kind falls, at the same rate of false positives, when
    /// its values are those of other flows. Of the forest alone, on groups left out.
    pub permutation: f64,
}

/// Both, of the features that trees may ask; the most by permutation first.
#[must_use]
pub fn importances(
    table: &Table,
    training: &Training<'_>,
    forest: &Forest,
    judges: &Judges,
    false_positive_rate: f64,
) -> Vec<Importance> {
    let by_impurity = impurity(training, forest, judges.class_weights);
    let by_permutation = permutation(table, judges, false_positive_rate);
    let mut all: Vec<Importance> = by_permutation
        .into_iter()
        .map(|(feature, permutation)| Importance {
            feature: FEATURE_SPECS[feature].name,
            impurity: by_impurity[feature],
            permutation,
        })
        .collect();
    all.sort_by(|a, b| {
        let by_name = || a.feature.cmp(b.feature);
        b.permutation.total_cmp(&a.permutation).then_with(by_name)
    });
    all
}

/// The same for the card of a model, by name, to five digits.
#[must_use]
pub fn card(
    table: &Table,
    training: &Training<'_>,
    forest: &Forest,
    judges: &Judges,
    false_positive_rate: f64,
) -> serde_json::Value {
    let short = |value: f64| (value * 1e5).round() / 1e5;
    let all = importances(table, training, forest, judges, false_positive_rate);
    let by_name = |of: fn(&Importance) -> f64| -> serde_json::Map<String, serde_json::Value> {
        let line = |line: &Importance| (line.feature.to_string(), short(of(line)).into());
        all.iter().map(line).collect()
    };
    serde_json::json!({
        "permutation_drop_of_recall_on_groups_left_out": by_name(|line| line.permutation),
        "impurity_share": by_name(|line| line.impurity),
    })
}

/// Parts of the decrease of Gini impurity, by feature, over the rows as they are weighed in leaves.
fn impurity(training: &Training<'_>, forest: &Forest, weights: ClassWeights) -> Vec<f64> {
    let classes = training.classes.len();
    let trees = forest.trees().iter().map(|tree| tree.nodes.as_slice());
    let trees: Vec<_> = trees.collect();
    let of_trees = training.over_trees(weights, &trees, |nodes, sums| {
        // Weight times Gini impurity.
        let gini = |at: usize| {
            let sums = &sums[at * classes..(at + 1) * classes];
            let all: f64 = sums.iter().sum();
            if all > 0.0 {
                all - sums.iter().map(|sum| sum * sum).sum::<f64>() / all
            } else {
                0.0
            }
        };
        let mut parts = vec![0.0; FEATURES];
        for (at, node) in nodes.iter().enumerate().filter(|(_, node)| !node.is_leaf()) {
            let left = usize::from(node.left);
            parts[usize::from(node.feature)] += gini(at) - gini(left) - gini(left + 1);
        }
        parts
    });
    let mut parts = vec![0.0; FEATURES];
    for of_tree in of_trees {
        for (sum, part) in parts.iter_mut().zip(of_tree) {
            *sum += part;
        }
    }
    let all: f64 = parts.iter().sum();
    if all > 0.0 {
        parts.iter_mut().for_each(|part| *part /= all);
    }
    parts
}

/// Drop of the mean recall by feature, when each flow has the feature's values of another flow,
/// drawn half from attacks and from all groups and kinds alike: within a group of one class its own
/// values would tell as much.
fn permutation(table: &Table, judges: &Judges, false_positive_rate: f64) -> Vec<(usize, f64)> {
    let flows = table.flows();
    let mut of_row = vec![0; table.rows.len()];
    let mut cells: [std::collections::BTreeMap<(u32, u32), Vec<usize>>; 2] = Default::default();
    for (at, flow) in flows.iter().enumerate() {
        let row = &table.rows[flow.start];
        of_row[flow.clone()].fill(at);
        if !table.is_training_only(row.group) {
            let of_class = &mut cells[usize::from(row.attack)];
            of_class.entry((row.group, row.kind)).or_default().push(at);
        }
    }
    let cells = cells.map(|cells| cells.into_values().collect::<Vec<_>>());
    let measure = |rows: &[RowScore]| {
        let flows = flow_scores(table, rows);
        let scored = |weights: Vec<f64>| -> Vec<(f32, f64)> {
            flows.iter().map(|flow| flow.score).zip(weights).collect()
        };
        let benign = scored(threshold::benign_weights(table, &flows));
        let attack = scored(threshold::attack_weights(table, &flows));
        let cut = threshold::lowest_within(&benign, false_positive_rate);
        threshold::at_or_above(&attack, cut)
    };
    let scores = judges.scores(table, |row| table.rows[row].features);
    let whole = measure(&scores);
    asked_features()
        .into_iter()
        .map(|feature| {
            let mut random = Random::new(judges.seed, feature as u64);
            let donors: Vec<usize> = flows
                .iter()
                .map(|_| {
                    let cells = &cells[random.below(2)];
                    let cell = &cells[random.below(cells.len())];
                    cell[random.below(cell.len())]
                })
                .collect();
            let changed = judges.rescored(table, &scores, |row| {
                let flow = of_row[row];
                let donor = &flows[donors[flow]];
                let place = (row - flows[flow].start).min(donor.len() - 1);
                let given = table.rows[donor.start + place].features[feature];
                let mut features = table.rows[row].features;
                let changes = features[feature].to_bits() != given.to_bits();
                features[feature] = given;
                changes.then_some(features)
            });
            (feature, whole - measure(&changed))
        })
        .collect()
}
