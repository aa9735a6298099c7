//! Out-of-fold scores: every group judged by a forest that never saw it.

use std::ops::Range;

use super::captures::parallel;
use super::classes::NORMAL;
use super::forest::{self, ClassWeights, FitError, Settings, Training};
use super::random::Random;
use super::table::{NameId, Row, Table};
use super::tables::TRAINING_ONLY;
use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;
use crate::model::Forest;
use crate::rules::Rule;

/// Fold of a group that is never left out.
pub const IN_NO_FOLD: usize = usize::MAX;

/// Groups to a fold. Never a part of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Folds {
    /// Fold of each group of the table; [`IN_NO_FOLD`] of one that only trains.
    pub of_group: Vec<usize>,
    /// Number of folds, at least 2.
    pub count: usize,
}

impl Folds {
    /// Fold of a row of the table.
    #[must_use]
    pub fn fold(&self, table: &Table, row: usize) -> usize {
        self.of_group[table.rows[row].group as usize]
    }

    /// Spreads the groups over `count` folds so that each has its part of the attack and of the
    /// benign rows as far as whole groups allow; 0 makes one fold of each group.
    ///
    /// # Errors
    /// The reason in one line where there are too few groups.
    pub fn new(table: &Table, count: usize, seed: u64) -> Result<Self, String> {
        Self::among(table, table.judged_groups(), count, seed)
    }

    /// The same of some groups; others, whose rows are not in the table, are in no fold.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn among(
        table: &Table,
        judged: Vec<NameId>,
        count: usize,
        seed: u64,
    ) -> Result<Self, String> {
        let groups = judged.len();
        let count = if count == 0 {
            groups
        } else {
            count.min(groups)
        };
        if count < 2 {
            return Err(format!(
                "validation leaves whole groups out and needs 2 or more; the table has {groups} \
                 (those that only train do not count: {})",
                TRAINING_ONLY.join(", ")
            ));
        }
        let mut of_group = vec![IN_NO_FOLD; table.groups.all().len()];
        if count == groups {
            for (fold, group) in judged.into_iter().enumerate() {
                of_group[group as usize] = fold;
            }
            return Ok(Self { of_group, count });
        }
        let mut sizes = vec![[0.0_f64; 2]; table.groups.all().len()];
        for row in &table.rows {
            sizes[row.group as usize][usize::from(row.attack)] += 1.0;
        }
        // The square root, since a second thousand of rows of one group tells little more.
        let sizes: Vec<[f64; 2]> = sizes.into_iter().map(|size| size.map(f64::sqrt)).collect();
        let mut order: Vec<usize> = judged.into_iter().map(|group| group as usize).collect();
        Random::new(seed, u64::MAX).shuffle(&mut order);
        order.sort_by(|&a, &b| {
            let size = |group: usize| sizes[group][0] + sizes[group][1];
            size(b).total_cmp(&size(a))
        });
        let mut loads = vec![[0.0_f64; 2]; count];
        for group in order {
            let load = |fold: &usize| {
                (0..2)
                    .map(|class| loads[*fold][class] * sizes[group][class])
                    .sum::<f64>()
                    + (loads[*fold][0] + loads[*fold][1]) * 1e-3
            };
            let fold = (0..count)
                .min_by(|a, b| load(a).total_cmp(&load(b)))
                .unwrap_or(0);
            of_group[group] = fold;
            for class in 0..2 {
                loads[fold][class] += sizes[group][class];
            }
        }
        Ok(Self { of_group, count })
    }
}

impl Folds {
    /// Tells which groups were left out where the others are of one class.
    fn named(&self, table: &Table, fold: usize, error: FitError) -> FitError {
        let FitError::OneClass { rows, class } = error else {
            return error;
        };
        let groups = table.judged_groups().into_iter();
        let groups = groups.filter(|group| self.of_group[*group as usize] == fold);
        let names: Vec<&str> = groups.map(|group| table.groups.name(group)).collect();
        FitError::OneClassWithout {
            groups: names.join(", "),
            rows,
            class,
        }
    }
}

/// What a forest says of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowScore {
    /// Share of attack.
    pub score: f32,
    /// Most probable attack class, by the class names of all rows.
    pub class: u8,
}

/// Forests that never saw the fold they judge.
pub struct Judges {
    /// What each leaves out.
    pub folds: Folds,
    /// Class names of all rows.
    pub classes: Vec<String>,
    /// Seed they were grown with.
    pub seed: u64,
    /// How they weigh the classes of attack.
    pub class_weights: ClassWeights,
    /// By fold.
    forests: Vec<Judge>,
}

/// The forest of one fold.
struct Judge {
    forest: Forest,
    /// Its classes by the names of all rows.
    to_all: Vec<u8>,
    /// Rows of the fold.
    rows: Vec<usize>,
}

impl Judges {
    /// Grows a forest for each fold.
    ///
    /// # Errors
    /// [`FitError`] where the rows outside a fold are of one class.
    pub fn grow(table: &Table, folds: &Folds, settings: &Settings) -> Result<Self, FitError> {
        let classes = Training::new(table, |_| true)?.classes;
        let mut forests = Vec::new();
        for fold in 0..folds.count {
            let training = Training::new(table, |row| folds.fold(table, row) != fold);
            let training = training.map_err(|error| folds.named(table, fold, error))?;
            let settings = Settings {
                seed: settings.seed.wrapping_add(1 + fold as u64),
                ..settings.clone()
            };
            let of_all = |name: &String| classes.iter().position(|of_all| of_all == name);
            let to_all = training.classes.iter().map(of_all);
            let to_all: Vec<u8> = to_all.map(|class| class.unwrap_or(0) as u8).collect();
            forests.push(Judge {
                forest: forest::fit(&training, &settings)?,
                to_all,
                rows: (0..table.rows.len())
                    .filter(|&row| folds.fold(table, row) == fold)
                    .collect(),
            });
        }
        Ok(Self {
            folds: folds.clone(),
            classes,
            seed: settings.seed,
            class_weights: settings.class_weights,
            forests,
        })
    }

    /// Scores of all rows, each by the forest of its fold; 0 of rows that only train. `features`
    /// gives those of a row.
    #[must_use]
    pub fn scores(
        &self,
        table: &Table,
        features: impl Fn(usize) -> [f32; FEATURES] + Sync,
    ) -> Vec<RowScore> {
        let none = vec![RowScore::default(); table.rows.len()];
        self.rescored(table, &none, |row| Some(features(row)))
    }

    /// The same with some rows changed: those to which `change` gives features are judged, the others
    /// keep their scores.
    #[must_use]
    pub fn rescored(
        &self,
        table: &Table,
        scores: &[RowScore],
        change: impl Fn(usize) -> Option<[f32; FEATURES]> + Sync,
    ) -> Vec<RowScore> {
        debug_assert_eq!(scores.len(), table.rows.len());
        let mut scores = scores.to_vec();
        for judge in &self.forests {
            for (row, score, class) in judge.judge(&change) {
                let class = judge.to_all[usize::from(class)];
                scores[row] = RowScore { score, class };
            }
        }
        scores
    }
}

/// Scores of all rows, each by a forest grown without its fold; 0 of rows that only train.
///
/// # Errors
/// [`FitError`] where the rows outside a fold are of one class.
#[cfg(test)]
pub(super) fn out_of_fold(
    table: &Table,
    folds: &Folds,
    settings: &Settings,
) -> Result<Vec<RowScore>, FitError> {
    let judges = Judges::grow(table, folds, settings)?;
    Ok(judges.scores(table, |row| table.rows[row].features))
}

/// Rows judged at once by one thread.
const CHUNK_ROWS: usize = 4_096;

impl Judge {
    /// Rows that `change` gives features, with their scores and classes.
    fn judge(
        &self,
        change: &(impl Fn(usize) -> Option<[f32; FEATURES]> + Sync),
    ) -> Vec<(usize, f32, u8)> {
        let chunks: Vec<&[usize]> = self.rows.chunks(CHUNK_ROWS).collect();
        let judged = parallel(chunks.len(), |chunk| {
            let changed = chunks[chunk].iter().map(|&row| Some((row, change(row)?)));
            let (rows, features): (Vec<usize>, Vec<_>) = changed.flatten().unzip();
            let judged = self.forest.judge_all(&features);
            let with_row = rows.into_iter().zip(judged);
            with_row
                .map(|(row, (score, class))| (row, score, class))
                .collect::<Vec<_>>()
        });
        judged.concat()
    }
}

/// Feature that tells whether something came back; a rule on silence is withdrawn by it.
pub(super) const REV_PAYLOAD: &str = "flow_rev_payload_bytes_log2";

/// A flow by its highest score, as the engine takes it.
#[derive(Clone, Debug)]
pub struct FlowScore {
    /// Its rows.
    pub rows: Range<usize>,
    /// Highest score of its rows.
    pub score: f32,
    /// Class at that score.
    pub class: u8,
    /// The rule that spoke at one of its rows and was not withdrawn.
    pub rule: Option<Rule>,
    /// Flows it stands for.
    pub weight: f64,
}

/// Flows of the table by their highest score, those of groups that only train left out.
#[must_use]
pub fn flow_scores(table: &Table, scores: &[RowScore]) -> Vec<FlowScore> {
    flow_scores_by(table, scores, |_| true)
}

/// The same by the rules for which `counts` holds.
#[must_use]
pub fn flow_scores_by(
    table: &Table,
    scores: &[RowScore],
    counts: impl Fn(Rule) -> bool,
) -> Vec<FlowScore> {
    let rev_payload = FEATURE_SPECS
        .iter()
        .position(|spec| spec.name == REV_PAYLOAD);
    let of_flow = |rows: Range<usize>| {
        let mut best = scores[rows.start];
        for score in &scores[rows.clone()] {
            if score.score > best.score {
                best = *score;
            }
        }
        FlowScore {
            score: best.score,
            class: best.class,
            rule: rule_of(&table.rows[rows.clone()], rev_payload, &counts),
            weight: f64::from(table.rows[rows.start].stands_for),
            rows,
        }
    };
    table
        .flows()
        .into_iter()
        .filter(|rows| !table.is_training_only(table.rows[rows.start].group))
        .map(of_flow)
        .collect()
}

/// The rule that a flow's rows leave standing, as in the engine: one that rests on silence is
/// withdrawn once something came back.
fn rule_of(
    rows: &[Row],
    rev_payload: Option<usize>,
    counts: &impl Fn(Rule) -> bool,
) -> Option<Rule> {
    rows.iter().fold(None, |standing, row| {
        let is_fed = rev_payload.is_some_and(|at| row.features[at] > 0.0);
        row.rule
            .filter(|rule| counts(*rule))
            .or_else(|| standing.filter(|rule| !(is_fed && rule.rests_on_silence())))
    })
}

/// Shuffles labels over whole groups' flows: what is left to learn then is nothing, so that a
/// grouped validation of the result must find none.
pub fn shuffle_labels(table: &mut Table, seed: u64) {
    let flows = table.flows();
    let mut labels: Vec<(bool, u32)> = flows
        .iter()
        .map(|flow| (table.rows[flow.start].attack, table.rows[flow.start].kind))
        .collect();
    Random::new(seed, 0).shuffle(&mut labels);
    for (flow, (attack, kind)) in flows.into_iter().zip(labels) {
        for row in &mut table.rows[flow] {
            (row.attack, row.kind) = (attack, kind);
        }
    }
}

/// Name of a class for reports.
#[must_use]
pub fn class_name(classes: &[String], class: u8) -> &str {
    classes
        .get(usize::from(class))
        .map_or(NORMAL, String::as_str)
}
