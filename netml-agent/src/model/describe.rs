//! What a model is, and what differs between two: for people and scripts, never for serving.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{FORMAT_VERSION, Judgement, Model, SHARE_ONE};
use crate::flow::FEATURES;
use crate::flow::schema::{self, FEATURE_SPECS};
use crate::verdict::Verdict;

/// Rows made up to compare two models of which neither has a self-test.
const MADE_UP_ROWS: usize = 1_024;

/// Rows of another verdict that are listed.
const CHANGES_MAX: usize = 10;

/// How much the trees rest on one feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Importance {
    /// Feature name of the schema.
    pub feature: &'static str,
    /// Splits that ask it.
    pub splits: usize,
    /// Its part of all movement, 0 to 1: a split moves the share of attack by the distance between
    /// its two sides, halved with each level below the root.
    pub movement: f64,
}

/// Size of the trees.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trees {
    /// Trees.
    pub count: usize,
    /// Splits and leaves.
    pub nodes: usize,
    /// Leaves.
    pub leaves: usize,
    /// Most splits between a root and a leaf.
    pub depth_max: usize,
    /// Mean over the trees of their depth.
    pub depth_mean: f64,
}

/// A model file told.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// First 12 hex digits of the file's digest.
    pub id: String,
    /// Format version.
    pub format_version: u32,
    /// Digest of the feature schema.
    pub schema_digest: String,
    /// True where this build has that schema.
    pub schema_is_of_this_build: bool,
    /// Features of the schema.
    pub features: usize,
    /// Features that any split asks.
    pub features_asked: usize,
    /// Class names; the first is "normal".
    pub classes: Vec<String>,
    /// Size.
    pub trees: Trees,
    /// SUSPICIOUS from this score on.
    pub suspicious: f32,
    /// UNSURE from this score on.
    pub unsure: f32,
    /// Share of attack the probabilities are calibrated at.
    pub reference_share: f32,
    /// Score and calibrated probability.
    pub calibration: Vec<[f32; 2]>,
    /// Score and false alarms per host-day.
    pub false_alarms_per_host_day: Vec<[f32; 2]>,
    /// Rows with known answers in the file; `None` without a self-test.
    pub self_test_rows: Option<usize>,
    /// Features asked, by movement.
    pub importances: Vec<Importance>,
    /// The card without its self-test.
    pub card: Value,
}

/// Tells what a model is.
#[must_use]
pub fn summary(model: &Model) -> Summary {
    let parts = model.parts();
    let trees = parts.forest.trees();
    let importances = importances(model);
    let leaves = |tree: &super::Tree| tree.nodes.iter().filter(|node| node.is_leaf()).count();
    let depths = trees.iter().map(|tree| tree.depth);
    let pairs = |knots: &[super::Knot]| knots.iter().map(|k| [k.score, k.value]).collect();
    let mut card: Value = serde_json::from_str(&parts.card).unwrap_or_default();
    if let Some(card) = card.as_object_mut() {
        card.remove("self_test");
    }
    Summary {
        id: model.id().into(),
        format_version: FORMAT_VERSION,
        schema_digest: parts.schema_digest.clone(),
        schema_is_of_this_build: model.is_of_this_schema(),
        features: FEATURES,
        features_asked: importances.len(),
        classes: parts.classes.clone(),
        trees: Trees {
            count: trees.len(),
            nodes: trees.iter().map(|tree| tree.nodes.len()).sum(),
            leaves: trees.iter().map(leaves).sum(),
            depth_max: depths.clone().max().unwrap_or(0),
            depth_mean: depths.sum::<usize>() as f64 / trees.len() as f64,
        },
        suspicious: parts.suspicious,
        unsure: parts.unsure,
        reference_share: parts.reference_share,
        calibration: pairs(&parts.calibration),
        false_alarms_per_host_day: pairs(&parts.false_alarms),
        self_test_rows: model.self_test().map(|test| test.rows.len()),
        importances,
        card,
    }
}

/// Features asked, by movement, then by name.
fn importances(model: &Model) -> Vec<Importance> {
    let mut splits = [0_usize; FEATURES];
    let mut movement = [0.0_f64; FEATURES];
    for tree in model.parts().forest.trees() {
        let mut levels = vec![0_i32; tree.nodes.len()];
        for (at, node) in tree.nodes.iter().enumerate() {
            if node.is_leaf() {
                continue;
            }
            let left = usize::from(node.left);
            for child in [left, left + 1] {
                levels[child] = levels[at] + 1;
            }
            let apart = tree.attack[left].abs_diff(tree.attack[left + 1]);
            let feature = usize::from(node.feature);
            splits[feature] += 1;
            movement[feature] += f64::from(apart) / f64::from(SHARE_ONE) * 0.5_f64.powi(levels[at]);
        }
    }
    let all: f64 = movement.iter().sum();
    let mut importances: Vec<Importance> = (0..FEATURES)
        .filter(|&feature| splits[feature] > 0)
        .map(|feature| Importance {
            feature: FEATURE_SPECS[feature].name,
            splits: splits[feature],
            movement: if all > 0.0 {
                movement[feature] / all
            } else {
                0.0
            },
        })
        .collect();
    importances.sort_by(|a, b| {
        b.movement
            .total_cmp(&a.movement)
            .then(a.feature.cmp(b.feature))
    });
    importances
}

/// What differs between two models.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The two identities.
    pub ids: [String; 2],
    /// Both files are the same.
    pub same: bool,
    /// What both files tell of themselves in different words: name, and the value in each; `null`
    /// where it is absent.
    pub metadata: BTreeMap<String, [Value; 2]>,
    /// Part of all movement in each, largest change first.
    pub importances: Vec<(String, [f64; 2])>,
    /// What they say of the same rows; `None` where they were made for different features.
    pub verdicts: Option<VerdictChanges>,
}

/// What two models say of the same rows.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictChanges {
    /// Where the rows are from.
    pub rows_from: &'static str,
    /// Rows.
    pub rows: usize,
    /// Rows of each verdict of the first (outer) and second (inner) model, those without left out.
    pub counts: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    /// Rows of another verdict.
    pub changed: usize,
    /// Rows that neither calls NORMAL and that are of another class.
    pub of_another_class: usize,
    /// Largest distance between the two scores of a row.
    pub score_distance_max: f32,
    /// Mean of it.
    pub score_distance_mean: f64,
    /// The first rows of another verdict.
    pub first: Vec<VerdictChange>,
}

/// A row two models disagree on.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictChange {
    /// Number of the row.
    pub row: usize,
    /// Scores.
    pub scores: [f32; 2],
    /// Verdicts.
    pub verdicts: [&'static str; 2],
    /// Class names.
    pub classes: [String; 2],
}

/// Compares two models.
#[must_use]
pub fn compare(first: &Model, second: &Model) -> Comparison {
    let [a, b] = [summary(first), summary(second)];
    let same = first.id() == second.id() && first.parts() == second.parts();
    let mut movement: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
    for (at, importances) in [&a.importances, &b.importances].into_iter().enumerate() {
        for importance in importances {
            movement.entry(importance.feature).or_default()[at] = importance.movement;
        }
    }
    let change = |pair: &[f64; 2]| (pair[0] - pair[1]).abs();
    let mut importances: Vec<_> = movement
        .into_iter()
        .filter(|(_, pair)| change(pair) > 0.0)
        .map(|(name, pair)| (name.to_string(), pair))
        .collect();
    importances.sort_by(|x, y| change(&y.1).total_cmp(&change(&x.1)));
    let comparable = a.schema_digest == b.schema_digest && first.is_of_this_schema();
    Comparison {
        ids: [a.id.clone(), b.id.clone()],
        same,
        metadata: metadata(&a, &b),
        importances,
        verdicts: comparable.then(|| verdicts(first, second)),
    }
}

/// Differences of what the files tell of themselves.
fn metadata(a: &Summary, b: &Summary) -> BTreeMap<String, [Value; 2]> {
    let told = |summary: &Summary| {
        let mut told = BTreeMap::new();
        if let Ok(Value::Object(fields)) = serde_json::to_value(summary) {
            for (name, value) in fields {
                if !matches!(name.as_str(), "id" | "importances") {
                    flatten(name, value, &mut told);
                }
            }
        }
        told
    };
    let (a, b) = (told(a), told(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| {
            let of = |told: &BTreeMap<String, Value>| told.get(name).cloned().unwrap_or_default();
            (name.clone(), [of(&a), of(&b)])
        })
        .collect()
}

/// Objects by dotted names; lists as they are.
fn flatten(name: String, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                flatten(format!("{name}.{field}"), value, into);
            }
        }
        Value::Null => {}
        value => {
            into.insert(name, value);
        }
    }
}

fn verdicts(first: &Model, second: &Model) -> VerdictChanges {
    let of_files: Vec<[f32; FEATURES]> = [first, second]
        .into_iter()
        .filter_map(Model::self_test)
        .flat_map(|test| test.rows)
        .collect();
    let (rows_from, rows) = if of_files.is_empty() {
        (
            "made up of the split values of both",
            made_up_rows(&[first, second]),
        )
    } else {
        ("the self-tests of the files", of_files)
    };
    let judged = [first, second].map(|model| {
        let mut out = vec![Judgement::default(); rows.len()];
        model.judge(&rows, &mut out);
        out
    });
    let mut changes = VerdictChanges {
        rows_from,
        rows: rows.len(),
        counts: BTreeMap::new(),
        changed: 0,
        of_another_class: 0,
        score_distance_max: 0.0,
        score_distance_mean: 0.0,
        first: Vec::new(),
    };
    let mut distance = 0.0;
    for (row, (a, b)) in judged[0].iter().zip(&judged[1]).enumerate() {
        let verdicts = [first.verdict(a.score), second.verdict(b.score)];
        let class = |model: &Model, class: u8| {
            let name = model.classes().get(usize::from(class));
            name.cloned().unwrap_or_default()
        };
        let classes = [class(first, a.class), class(second, b.class)];
        let of_first = changes.counts.entry(verdicts[0].name()).or_default();
        *of_first.entry(verdicts[1].name()).or_default() += 1;
        let apart = (a.score - b.score).abs();
        changes.score_distance_max = changes.score_distance_max.max(apart);
        distance += f64::from(apart);
        let both = verdicts.iter().all(|verdict| *verdict >= Verdict::Unsure);
        changes.of_another_class += usize::from(both && classes[0] != classes[1]);
        if verdicts[0] != verdicts[1] {
            changes.changed += 1;
            if changes.first.len() < CHANGES_MAX {
                changes.first.push(VerdictChange {
                    row,
                    scores: [a.score, b.score],
                    verdicts: verdicts.map(Verdict::name),
                    classes,
                });
            }
        }
    }
    changes.score_distance_mean = distance / rows.len().max(1) as f64;
    changes
}

/// Rows whose values lie at split values of the models, on either side: they reach leaves all over
/// the trees, and are no traffic. The same models give the same rows.
#[must_use]
pub fn made_up_rows(models: &[&Model]) -> Vec<[f32; FEATURES]> {
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); FEATURES];
    for model in models {
        let nodes = model
            .parts()
            .forest
            .trees()
            .iter()
            .flat_map(|tree| &tree.nodes);
        for node in nodes.filter(|node| !node.is_leaf()) {
            values[usize::from(node.feature)].push(node.threshold);
        }
    }
    for values in &mut values {
        values.sort_by(f32::total_cmp);
        values.dedup_by_key(|value| value.to_bits());
    }
    let mut state = 0_u64;
    let mut next = |bound: usize| {
        // A linear generator with Knuth's constants; its upper half is random enough here.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut row = || {
        let mut row = [0.0; FEATURES];
        for (value, of_feature) in row.iter_mut().zip(&values) {
            if !of_feature.is_empty() {
                let at = of_feature[next(of_feature.len())];
                *value = if next(2) == 0 { at } else { at.next_up() };
            }
        }
        row
    };
    (0..MADE_UP_ROWS).map(|_| row()).collect()
}

/// One line on the schema, for messages.
#[must_use]
pub(crate) fn schema_line(model: &Model) -> String {
    let own = schema::digest();
    let digits = |digest: &str| digest.chars().take(12).collect::<String>();
    if model.is_of_this_schema() {
        format!("{} (this build's)", digits(&own))
    } else {
        format!(
            "{} (this build has {} and cannot serve it)",
            digits(&model.parts().schema_digest),
            digits(&own)
        )
    }
}
