//! Out-of-fold scores to thresholds, calibrated probabilities and expected false alarms.
//!
//! Groups count alike, and so do the captures of a group, however many flows they hold; groups with fewer than [`GROUP_FLOWS_MIN`]
//! benign flows are pooled into one. A false alarm is an episode: SUSPICIOUS rows of one host and
//! one kind with less than [`EPISODE_GAP_MS`] between them. A host-day is 1,440 minutes in each of
//! which the host began or continued a benign flow.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::table::Table;
use super::validate::{FlowScore, RowScore};
use crate::model::Knot;

/// Benign flows below which a group is pooled with others.
pub const GROUP_FLOWS_MIN: usize = 100;

/// Silence that ends an episode.
pub const EPISODE_GAP_MS: u64 = 5 * 60 * 1000;

pub(super) const MINUTE_MS: u64 = 60 * 1000;
pub(super) const HOST_DAY_MINUTES: f64 = 1_440.0;

/// Bins of the calibration before neighbours are merged.
const CALIBRATION_BINS: usize = 48;

/// Knots of the table of false alarms.
const ALARM_KNOTS: usize = 64;

/// What a threshold may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Most false alarms per host-day at SUSPICIOUS.
    pub alarms_per_host_day: f64,
    /// Most benign flows called SUSPICIOUS, a share as the mean over groups.
    pub false_positive_rate: f64,
    /// UNSURE reaches down to this many times either.
    pub unsure_factor: f64,
    /// Share of attack the probabilities are calibrated at.
    pub reference_share: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            alarms_per_host_day: 10.0,
            false_positive_rate: 0.005,
            unsure_factor: 10.0,
            reference_share: 0.1,
        }
    }
}

/// What a model needs beside its trees.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// SUSPICIOUS from here on.
    pub suspicious: f32,
    /// UNSURE from here on.
    pub unsure: f32,
    /// Score to probability.
    pub calibration: Vec<Knot>,
    /// Score to false alarms per host-day.
    pub false_alarms: Vec<Knot>,
    /// Host-days the false alarms were counted over.
    pub host_days: f64,
    /// False alarms per host-day at SUSPICIOUS.
    pub alarms_per_host_day: f64,
    /// Share of benign flows at SUSPICIOUS, mean over groups.
    pub false_positive_rate: f64,
}

/// Benign flows with their weight: each group's sum to one part of one, and within a group each
/// capture's to one part of the group's. One capture is one sample of a behaviour, however many
/// flows it made: without this a single file-sharing client would set the threshold for all.
#[must_use]
pub fn benign_weights(table: &Table, flows: &[FlowScore]) -> Vec<f64> {
    let first = |flow: &FlowScore| &table.rows[flow.rows.start];
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for row in flows.iter().map(first).filter(|row| !row.attack) {
        *counts.entry(row.group).or_default() += 1;
    }
    let pooled = u32::MAX;
    let unit = |flow: &FlowScore| {
        let group = first(flow).group;
        let large = counts.get(&group).is_some_and(|&n| n >= GROUP_FLOWS_MIN);
        if large { group } else { pooled }
    };
    // Per unit its captures, each with the flows it stands for.
    let mut units: BTreeMap<u32, BTreeMap<u32, f64>> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| !first(flow).attack) {
        let captures = units.entry(unit(flow)).or_default();
        *captures.entry(first(flow).capture).or_default() += flow.weight;
    }
    let weight = |flow: &FlowScore| {
        let captures = units.get(&unit(flow))?;
        let flows = captures.get(&first(flow).capture)?;
        let alike = flows * captures.len() as f64 * units.len() as f64;
        (!first(flow).attack).then_some(flow.weight / alike)
    };
    flows
        .iter()
        .map(|flow| weight(flow).unwrap_or(0.0))
        .collect()
}

/// Attack flows with their weight: each group and kind's sum to one part of one.
pub(super) fn attack_weights(table: &Table, flows: &[FlowScore]) -> Vec<f64> {
    let cell = |flow: &FlowScore| {
        let row = &table.rows[flow.rows.start];
        row.attack.then_some((row.group, row.kind))
    };
    let mut sums: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    for flow in flows {
        if let Some(cell) = cell(flow) {
            *sums.entry(cell).or_default() += flow.weight;
        }
    }
    let cells = sums.len() as f64;
    let weight = |flow: &FlowScore| {
        let sum = cell(flow).and_then(|cell| sums.get(&cell));
        sum.map_or(0.0, |sum| flow.weight / sum / cells)
    };
    flows.iter().map(weight).collect()
}

/// The lowest score at which the weights at or above sum to no more than `budget`.
pub(super) fn lowest_within(scores: &[(f32, f64)], budget: f64) -> f32 {
    let mut ordered: Vec<(f32, f64)> = scores.iter().copied().filter(|s| s.1 > 0.0).collect();
    ordered.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut sum = 0.0;
    let mut threshold = 1.0;
    for group in ordered.chunk_by(|a, b| a.0.to_bits() == b.0.to_bits()) {
        sum += group.iter().map(|s| s.1).sum::<f64>();
        if sum > budget {
            return threshold;
        }
        threshold = group[0].0;
    }
    threshold
}

/// Share of the weights at or above a threshold.
pub(super) fn at_or_above(scores: &[(f32, f64)], threshold: f32) -> f64 {
    scores
        .iter()
        .filter(|(score, _)| *score >= threshold)
        .map(|(_, weight)| weight)
        .sum()
}

/// Benign rows by host and kind, for counting episodes.
pub struct Alarms {
    /// Per capture, host and class: times and scores, in order of time.
    series: Vec<Vec<(u64, f32)>>,
    /// Exposure.
    pub host_days: f64,
}

impl Alarms {
    /// Gathers the benign rows for which `wanted` holds, those that only train left out.
    #[must_use]
    pub fn new(table: &Table, scores: &[RowScore], wanted: impl Fn(usize) -> bool) -> Self {
        let mut minutes = BTreeSet::new();
        let mut series: BTreeMap<(u32, u32, u8), Vec<(u64, f32)>> = BTreeMap::new();
        for (index, (row, score)) in table.rows.iter().zip(scores).enumerate() {
            if row.attack || table.is_training_only(row.group) || !wanted(index) {
                continue;
            }
            minutes.insert((row.capture, row.host, row.time_ms / MINUTE_MS));
            series
                .entry((row.capture, row.host, score.class))
                .or_default()
                .push((row.time_ms, score.score));
        }
        let mut series: Vec<_> = series.into_values().collect();
        for times in &mut series {
            times.sort_by_key(|(time_ms, _)| *time_ms);
        }
        Self {
            series,
            host_days: minutes.len() as f64 / HOST_DAY_MINUTES,
        }
    }

    /// Episodes at a threshold.
    #[must_use]
    pub fn episodes(&self, threshold: f32) -> usize {
        let of_one = |times: &Vec<(u64, f32)>| {
            let mut episodes = 0;
            let mut last_ms: Option<u64> = None;
            for &(time_ms, score) in times {
                if score >= threshold {
                    let new = last_ms.is_none_or(|last| time_ms - last >= EPISODE_GAP_MS);
                    episodes += usize::from(new);
                    last_ms = Some(time_ms);
                }
            }
            episodes
        };
        self.series.iter().map(of_one).sum()
    }

    /// Episodes per host-day at a threshold; 0 without exposure.
    #[must_use]
    pub fn per_host_day(&self, threshold: f32) -> f64 {
        if self.host_days > 0.0 {
            self.episodes(threshold) as f64 / self.host_days
        } else {
            0.0
        }
    }

    /// The lowest of these thresholds, given in descending order, within the budget.
    fn lowest_within(&self, descending: &[f32], budget: f64) -> f32 {
        let within = descending
            .iter()
            .take_while(|threshold| self.per_host_day(**threshold) <= budget);
        within.last().copied().unwrap_or(1.0)
    }
}

/// Cuts the scores by a budget. `rows` are the scores behind `flows`.
#[must_use]
pub fn choose(
    table: &Table,
    rows: &[RowScore],
    flows: &[FlowScore],
    budget: &Budget,
) -> Thresholds {
    choose_among(table, rows, flows, budget, |_| true)
}

/// The same by the rows for which `wanted` holds, flows of others being absent from `flows`.
#[must_use]
pub fn choose_among(
    table: &Table,
    rows: &[RowScore],
    flows: &[FlowScore],
    budget: &Budget,
    wanted: impl Fn(usize) -> bool,
) -> Thresholds {
    let weights = benign_weights(table, flows);
    let benign: Vec<(f32, f64)> = flows.iter().map(|f| f.score).zip(weights).collect();
    let alarms = Alarms::new(table, rows, wanted);
    let candidates = descending_candidates(&benign);
    let cut = |factor: f64| {
        let by_rate = lowest_within(&benign, budget.false_positive_rate * factor);
        let by_alarms = alarms.lowest_within(&candidates, budget.alarms_per_host_day * factor);
        by_rate.max(by_alarms).clamp(f32::MIN_POSITIVE, 1.0)
    };
    let suspicious = cut(1.0);
    let unsure = cut(budget.unsure_factor).min(suspicious);
    Thresholds {
        suspicious,
        unsure,
        calibration: calibrate(table, flows, &benign, budget.reference_share),
        false_alarms: alarm_table(&alarms, &candidates, &[suspicious, unsure]),
        host_days: alarms.host_days,
        alarms_per_host_day: alarms.per_host_day(suspicious),
        false_positive_rate: at_or_above(&benign, suspicious),
    }
}

/// Distinct scores of benign flows, descending, thinned to a bounded number.
fn descending_candidates(benign: &[(f32, f64)]) -> Vec<f32> {
    const CANDIDATES_MAX: usize = 1_000;
    let mut scores: Vec<f32> = benign.iter().filter(|s| s.1 > 0.0).map(|s| s.0).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup_by_key(|score| score.to_bits());
    // The high scores are those that matter: all of the first, then ever fewer.
    let mut step = 1.0_f64;
    let mut at = 0.0;
    let mut thinned = Vec::new();
    while thinned.len() < CANDIDATES_MAX {
        #[expect(clippy::cast_sign_loss, reason = "grows from zero")]
        let Some(score) = scores.get(at as usize) else {
            break;
        };
        thinned.push(*score);
        at += step;
        step *= 1.02;
    }
    thinned
}

/// Expected false alarms by score: falling, a knot at each of some scores.
fn alarm_table(alarms: &Alarms, candidates: &[f32], thresholds: &[f32]) -> Vec<Knot> {
    let step = candidates.len().div_ceil(ALARM_KNOTS).max(1);
    let mut scores: Vec<f32> = candidates.iter().step_by(step).copied().collect();
    scores.extend(thresholds);
    scores.extend([0.0, 1.0]);
    scores.retain(|score| (0.0..=1.0).contains(score));
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup_by_key(|score| score.to_bits());
    // One more hit can join two episodes: the table takes the worst of the higher thresholds.
    let mut worst = 0.0_f64;
    let mut knots: Vec<Knot> = scores
        .into_iter()
        .map(|score| {
            worst = worst.max(alarms.per_host_day(score));
            let value = worst as f32;
            Knot { score, value }
        })
        .collect();
    knots.reverse();
    knots
}

/// A bin of flows with neighbouring scores: sums of weights and of weighted scores.
#[derive(Clone, Copy, Default)]
struct Bin {
    attack: f64,
    benign: f64,
    score: f64,
}

impl Bin {
    fn with(self, other: Self) -> Self {
        Self {
            attack: self.attack + other.attack,
            benign: self.benign + other.benign,
            score: self.score + other.score,
        }
    }

    /// Share of attack where both classes weigh one, drawn to one half by a small prior.
    fn share(&self) -> f64 {
        const PRIOR: f64 = 2e-4;
        (self.attack + PRIOR) / (self.attack + self.benign + 2.0 * PRIOR)
    }
}

/// Isotonic calibration (pool adjacent violators, Ayer et al. 1955) over bins of equal weight,
/// moved to the reference share of attack.
fn calibrate(
    table: &Table,
    flows: &[FlowScore],
    benign: &[(f32, f64)],
    reference_share: f64,
) -> Vec<Knot> {
    let attack = attack_weights(table, flows);
    let mut items: Vec<(f32, f64, f64)> = benign
        .iter()
        .zip(&attack)
        .map(|(&(score, benign), &attack)| (score, attack, benign))
        .collect();
    items.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = items.iter().map(|item| item.1 + item.2).sum();
    let mut bins: Vec<Bin> = vec![Bin::default()];
    let mut weight = 0.0;
    for (score, attack, benign) in items {
        let full = weight >= total / CALIBRATION_BINS as f64 * bins.len() as f64;
        if full {
            bins.push(Bin::default());
        }
        weight += attack + benign;
        if let Some(last) = bins.last_mut() {
            *last = last.with(Bin {
                attack,
                benign,
                score: f64::from(score) * (attack + benign),
            });
        }
    }
    let mut pooled: Vec<Bin> = Vec::new();
    for bin in bins.into_iter().filter(|bin| bin.attack + bin.benign > 0.0) {
        let mut bin = bin;
        while let Some(before) = pooled.pop_if(|before| before.share() >= bin.share()) {
            bin = before.with(bin);
        }
        pooled.push(bin);
    }
    let odds_factor = reference_share / (1.0 - reference_share);
    let mut knots: Vec<Knot> = Vec::new();
    for bin in pooled {
        let odds = bin.share() / (1.0 - bin.share()) * odds_factor;
        let score = (bin.score / (bin.attack + bin.benign)) as f32;
        let value = (odds / (1.0 + odds)) as f32;
        if knots.last().is_none_or(|last| last.score < score) {
            knots.push(Knot { score, value });
        }
    }
    if knots.is_empty() {
        let value = reference_share as f32;
        knots.push(Knot { score: 0.0, value });
    }
    knots
}

#[cfg(test)]
#[path = "threshold_tests.rs"]
mod tests;
