//! Settings of the forest compared by nested grouped validation, and the comparison as a record.
//!
//! Outer folds of whole groups are taken away one after the other. Of what is left, inner folds of
//! whole groups score every setting: grown without the fold, thresholds without it too. The best by
//! that score is grown on all inner groups, cut by its inner scores, and judged on the outer groups,
//! beside the present settings. So no setting is chosen by the groups that judge it. Rows of groups
//! that only train take part in every forest and in no score.

use serde::Serialize;

use super::cross::{Judged, combined};
use super::forest::{self, ClassWeights, Settings, Training};
use super::metrics::Tally;
use super::random::Random;
use super::report::view::{percent, percent_fine, rounded};
use super::table::Table;
use super::threshold::{self, Budget};
use super::trainer::{TrainError, TrainSettings};
use super::validate::{FlowScore, Folds, IN_NO_FOLD, RowScore, flow_scores};
use crate::verdict::Verdict;

/// Values of the grid; the present one stands in the middle of each.
const TREES: [usize; 3] = [10, 20, 40];
const DEPTHS: [u16; 3] = [8, 14, 20];
const LEAF_ROWS: [usize; 3] = [2, 8, 32];
const SPLIT_FEATURES: [usize; 3] = [4, 8, 16];
const TREE_ROWS: [usize; 3] = [2_000, 4_000, 8_000];
const CLASS_WEIGHTS: [ClassWeights; 3] = [
    ClassWeights::Alike,
    ClassWeights::Shipped,
    ClassWeights::Squared,
];

/// What the grid varies.
const DIMENSIONS: usize = 6;

/// Place of the present value of each.
const PRESENT: [usize; DIMENSIONS] = [1; DIMENSIONS];

/// Stream of the random numbers that draw settings.
const DRAW_STREAM: u64 = 46;

/// How the search goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Folds of groups that judge, 2 or more.
    pub outer: usize,
    /// Folds of the other groups that choose, 2 or more.
    pub inner: usize,
    /// Settings drawn from the whole grid, besides those that differ from the present in one value.
    pub drawn: usize,
    /// Seeds of the forests, from that of the settings on, 1 or more.
    pub seeds: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            outer: 4,
            inner: 3,
            drawn: 7,
            seeds: 2,
        }
    }
}

/// A point of the grid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// What differs from the present settings; "present" where nothing does.
    pub name: String,
    /// The settings.
    pub settings: Settings,
}

/// The settings that are compared, the present ones first.
#[must_use]
pub fn candidates(base: &Settings, drawn: usize) -> Vec<Candidate> {
    let mut places = vec![PRESENT];
    for dimension in 0..DIMENSIONS {
        for value in [0, 2] {
            let mut at = PRESENT;
            at[dimension] = value;
            places.push(at);
        }
    }
    let one_off = places.len();
    let mut random = Random::new(base.seed, DRAW_STREAM);
    // Of the 729 points few are taken: a bounded number of draws finds those asked for.
    for _ in 0..drawn.saturating_mul(100) {
        if places.len() >= one_off + drawn {
            break;
        }
        let at: [usize; DIMENSIONS] = std::array::from_fn(|_| random.below(3));
        if !places.contains(&at) {
            places.push(at);
        }
    }
    places.into_iter().map(|at| candidate(base, at)).collect()
}

fn candidate(base: &Settings, at: [usize; DIMENSIONS]) -> Candidate {
    let [trees, depth, leaf, split, rows, weights] = at;
    let settings = Settings {
        trees: TREES[trees],
        depth: DEPTHS[depth],
        leaf_rows: LEAF_ROWS[leaf],
        split_features: SPLIT_FEATURES[split],
        tree_rows: TREE_ROWS[rows],
        class_weights: CLASS_WEIGHTS[weights],
        ..base.clone()
    };
    let weights = match settings.class_weights {
        ClassWeights::Alike => "alike",
        ClassWeights::Shipped => "shipped",
        ClassWeights::Squared => "squared",
    };
    let told = [
        format!("trees {}", settings.trees),
        format!("depth {}", settings.depth),
        format!("leaf {}", settings.leaf_rows),
        format!("features {}", settings.split_features),
        format!("rows {}", settings.tree_rows),
        format!("weights {weights}"),
    ];
    let differ = told.iter().zip(at.iter().zip(&PRESENT));
    let differ: Vec<&str> = differ
        .filter(|(_, (at, present))| at != present)
        .map(|(name, _)| name.as_str())
        .collect();
    Candidate {
        name: if differ.is_empty() {
            "present".into()
        } else {
            differ.join(", ")
        },
        settings,
    }
}

/// Figures over flows, groups and kinds alike, flows of quality C left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Area under precision over recall of forest and rules, at the reference share of attack: what
    /// chooses.
    pub pr_auc: f64,
    /// The same of the forest alone.
    pub forest_pr_auc: f64,
    /// Mean recall over group and kind of forest and rules at the thresholds.
    pub recall: f64,
    /// The same of the forest alone.
    pub forest_recall: f64,
    /// Benign flows SUSPICIOUS at the thresholds, mean over groups, captures alike.
    pub false_positives: f64,
}

impl Score {
    fn of_each(scores: &[Self], of: impl Fn(&Self) -> f64) -> f64 {
        scores.iter().map(of).sum::<f64>() / scores.len().max(1) as f64
    }

    fn mean(scores: &[Self]) -> Self {
        Self {
            pr_auc: Self::of_each(scores, |s| s.pr_auc),
            forest_pr_auc: Self::of_each(scores, |s| s.forest_pr_auc),
            recall: Self::of_each(scores, |s| s.recall),
            forest_recall: Self::of_each(scores, |s| s.forest_recall),
            false_positives: Self::of_each(scores, |s| s.false_positives),
        }
    }
}

/// What was said of one flow.
#[derive(Clone)]
struct Outcome {
    flow: FlowScore,
    combined: f32,
    hit: bool,
    forest_hit: bool,
}

fn score(table: &Table, outcomes: &[Outcome], reference_share: f64) -> Score {
    let row = |outcome: &Outcome| &table.rows[outcome.flow.rows.start];
    let outcomes: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| row(outcome).quality != 'C')
        .collect();
    let flows: Vec<FlowScore> = outcomes.iter().map(|o| o.flow.clone()).collect();
    let attack = threshold::attack_weights(table, &flows);
    let benign = threshold::benign_weights(table, &flows);
    let mut tallies = [Tally::default(), Tally::default()];
    let mut score = Score::default();
    for (outcome, (attack, benign)) in outcomes.into_iter().zip(attack.into_iter().zip(benign)) {
        let weight = reference_share * attack + (1.0 - reference_share) * benign;
        let scores = [outcome.combined, outcome.flow.score];
        for (tally, score) in tallies.iter_mut().zip(scores) {
            tally.add(row(outcome).attack, score, Verdict::Normal, weight);
        }
        if outcome.hit {
            score.recall += attack;
            score.false_positives += benign;
        }
        if outcome.forest_hit {
            score.forest_recall += attack;
        }
    }
    let [both, forest] = tallies.map(|tally| tally.metrics().pr_auc.unwrap_or(0.0));
    (score.pr_auc, score.forest_pr_auc) = (both, forest);
    score
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What differs from the present settings.
    pub name: String,
    /// The settings.
    pub settings: Settings,
    /// Mean over outer folds and seeds of the score on inner groups.
    pub inner: Score,
    /// Difference of what chooses to the present settings, in the same folds and with the same seed:
    /// mean, and standard error over folds and seeds. They share groups, so that this is too small
    /// rather than too large.
    pub difference: [f64; 2],
    /// Outer folds in which it was chosen.
    pub chosen: usize,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// How it went.
    pub plan: Plan,
    /// Budget of the thresholds.
    pub budget: Budget,
    /// Groups of each outer fold.
    pub outer_groups: Vec<Vec<String>>,
    /// All settings, the best on inner groups first.
    pub lines: Vec<Line>,
    /// Name of the setting chosen in each outer fold.
    pub chosen: Vec<String>,
    /// On outer groups, by seed: the settings chosen without them.
    pub outer_chosen: Vec<Score>,
    /// On outer groups, by seed: the present settings.
    pub outer_present: Vec<Score>,
}

/// Compares the settings of the grid around those given. `tell` hears of each setting scored: how many
/// of how many.
///
/// # Errors
/// [`TrainError`] where a fold leaves one class or there are too few groups.
pub fn search(
    table: &Table,
    settings: &TrainSettings,
    plan: Plan,
    tell: impl Fn(usize, usize),
) -> Result<Record, TrainError> {
    let base = &settings.forest;
    let candidates = candidates(base, plan.drawn);
    let outer = Folds::new(table, plan.outer, base.seed).map_err(TrainError::Groups)?;
    let seeds: Vec<u64> = (0..plan.seeds).map(|n| base.seed.wrapping_add(n)).collect();
    let all = outer.count * candidates.len();
    // Per candidate its scores by outer fold and seed.
    let mut inner: Vec<Vec<Score>> = vec![Vec::new(); candidates.len()];
    let mut chosen = Vec::new();
    let mut outcomes: [Vec<Vec<Outcome>>; 2] =
        [vec![Vec::new(); seeds.len()], vec![Vec::new(); seeds.len()]];
    for fold in 0..outer.count {
        let kept = without(table, &outer, fold);
        let groups = kept.judged_groups().into_iter();
        let groups = groups.filter(|group| outer.of_group[*group as usize] != fold);
        let folds = Folds::among(&kept, groups.collect(), plan.inner, base.seed);
        let folds = folds.map_err(TrainError::Groups)?;
        let first = inner[0].len();
        // The best so far and the present settings are asked again on the outer groups.
        let mut best = 0;
        for (at, candidate) in candidates.iter().enumerate() {
            for seed in &seeds {
                let judged = judge(&kept, settings, candidate, *seed, &folds)?;
                let reference_share = settings.budget.reference_share;
                inner[at].push(score(&kept, &of_judged(&kept, &judged), reference_share));
            }
            let mean = |at: usize| Score::of_each(&inner[at][first..], |s| s.pr_auc);
            if mean(at) > mean(best) {
                best = at;
            }
            tell(fold * candidates.len() + at + 1, all);
        }
        chosen.push(best);
        for (outcomes, at) in outcomes.iter_mut().zip([best, 0]) {
            for (outcomes, seed) in outcomes.iter_mut().zip(&seeds) {
                let judged = judge(&kept, settings, &candidates[at], *seed, &folds)?;
                let of_outer = on_outer(
                    table,
                    &kept,
                    settings,
                    &judged,
                    &candidates[at],
                    &outer,
                    fold,
                )?;
                outcomes.extend(of_outer);
            }
        }
    }
    let of_outer = |outcomes: &[Vec<Outcome>]| -> Vec<Score> {
        let of_seed =
            |outcomes: &Vec<Outcome>| score(table, outcomes, settings.budget.reference_share);
        outcomes.iter().map(of_seed).collect()
    };
    let mut lines: Vec<Line> = candidates
        .iter()
        .zip(&inner)
        .enumerate()
        .map(|(at, (candidate, scores))| Line {
            name: candidate.name.clone(),
            settings: candidate.settings.clone(),
            inner: Score::mean(scores),
            difference: difference(scores, &inner[0]),
            chosen: chosen.iter().filter(|best| **best == at).count(),
        })
        .collect();
    lines.sort_by(|a, b| b.inner.pr_auc.total_cmp(&a.inner.pr_auc));
    Ok(Record {
        plan,
        budget: settings.budget,
        outer_groups: (0..outer.count)
            .map(|fold| {
                let of_fold = table.judged_groups().into_iter();
                let of_fold = of_fold.filter(|group| outer.of_group[*group as usize] == fold);
                of_fold
                    .map(|group| table.groups.name(group).to_string())
                    .collect()
            })
            .collect(),
        lines,
        chosen: chosen
            .iter()
            .map(|at| candidates[*at].name.clone())
            .collect(),
        outer_chosen: of_outer(&outcomes[0]),
        outer_present: of_outer(&outcomes[1]),
    })
}

/// The table without the rows of a fold.
fn without(table: &Table, folds: &Folds, fold: usize) -> Table {
    let rows = table.rows.iter();
    let kept = rows.filter(|row| folds.of_group[row.group as usize] != fold);
    Table {
        rows: kept.cloned().collect(),
        captures: table.captures.clone(),
        groups: table.groups.clone(),
        kinds: table.kinds.clone(),
        sources: Vec::new(),
    }
}

fn judge(
    kept: &Table,
    settings: &TrainSettings,
    candidate: &Candidate,
    seed: u64,
    folds: &Folds,
) -> Result<Judged, TrainError> {
    let settings = TrainSettings {
        forest: Settings {
            seed,
            ..candidate.settings.clone()
        },
        validation_trees: candidate.settings.trees,
        ..settings.clone()
    };
    Ok(Judged::in_folds(kept, &settings, folds)?)
}

fn of_judged(kept: &Table, judged: &Judged) -> Vec<Outcome> {
    let outcome = |(flow, answer): (&FlowScore, &super::cross::Answer)| {
        let cut = judged.cut(kept, flow.rows.start);
        Outcome {
            flow: flow.clone(),
            combined: answer.score,
            hit: answer.verdict == Verdict::Suspicious,
            forest_hit: cut.is_some_and(|cut| flow.score >= cut.suspicious),
        }
    };
    judged
        .flows
        .iter()
        .zip(&judged.answers)
        .map(outcome)
        .collect()
}

/// Flows of an outer fold by a forest of all inner groups, cut by the inner scores.
fn on_outer(
    table: &Table,
    kept: &Table,
    settings: &TrainSettings,
    judged: &Judged,
    candidate: &Candidate,
    outer: &Folds,
    fold: usize,
) -> Result<Vec<Outcome>, TrainError> {
    let cut = threshold::choose(kept, &judged.rows, &judged.flows, &settings.budget);
    let training = Training::new(kept, |_| true)?;
    let grown = Settings {
        seed: judged.seed,
        ..candidate.settings.clone()
    };
    let forest = forest::fit(&training, &grown)?;
    let asked: Vec<usize> = (0..table.rows.len())
        .filter(|&row| outer.fold(table, row) == fold)
        .collect();
    let features: Vec<_> = asked.iter().map(|&row| table.rows[row].features).collect();
    let mut rows = vec![RowScore::default(); table.rows.len()];
    for (row, (score, class)) in asked.into_iter().zip(forest.judge_all(&features)) {
        rows[row] = RowScore { score, class };
    }
    debug_assert_ne!(fold, IN_NO_FOLD);
    let flows = flow_scores(table, &rows).into_iter();
    let of_fold = flows.filter(|flow| outer.fold(table, flow.rows.start) == fold);
    Ok(of_fold
        .map(|flow| {
            let combined = combined(&cut, flow.score, flow.rule);
            Outcome {
                combined,
                hit: combined >= cut.suspicious,
                forest_hit: flow.score >= cut.suspicious,
                flow,
            }
        })
        .collect())
}

/// Mean and standard error of what chooses against others in the same place.
fn difference(scores: &[Score], others: &[Score]) -> [f64; 2] {
    let differences: Vec<f64> = scores
        .iter()
        .zip(others)
        .map(|(a, b)| a.pr_auc - b.pr_auc)
        .collect();
    let count = differences.len().max(1) as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    [mean, (squares / (count - 1.0).max(1.0) / count).sqrt()]
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plan = &self.plan;
        writeln!(
            f,
            "{} settings, {} outer folds of groups, {} inner ones, {} seeds; inner groups choose by PR-AUC \
             of forest and rules, groups and kinds alike\n",
            self.lines.len(),
            plan.outer,
            plan.inner,
            plan.seeds
        )?;
        writeln!(
            f,
            "| setting | PR-AUC | to present, ± error | forest alone | recall | forest alone | false positives | chosen |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for line in &self.lines {
            let [mean, error] = line.difference.map(|value| rounded(value * 100.0, 1));
            writeln!(
                f,
                "| {} | {} | {mean} ± {error} | {} | {} | {} | {} | {} |",
                line.name,
                percent(line.inner.pr_auc),
                percent(line.inner.forest_pr_auc),
                percent(line.inner.recall),
                percent(line.inner.forest_recall),
                percent_fine(line.inner.false_positives),
                line.chosen
            )?;
        }
        writeln!(
            f,
            "\non outer groups, which took no part in the choice, by seed\n"
        )?;
        writeln!(
            f,
            "| settings | seed | PR-AUC | forest alone | recall | forest alone | false positives |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (name, scores) in [
            ("chosen", &self.outer_chosen),
            ("present", &self.outer_present),
        ] {
            for (seed, score) in scores.iter().enumerate() {
                writeln!(
                    f,
                    "| {name} | {} | {} | {} | {} | {} | {} |",
                    seed + 1,
                    percent(score.pr_auc),
                    percent(score.forest_pr_auc),
                    percent(score.recall),
                    percent(score.forest_recall),
                    percent_fine(score.false_positives)
                )?;
            }
        }
        writeln!(f, "\nchosen by fold: {}", self.chosen.join("; "))
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
