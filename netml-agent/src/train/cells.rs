//! Flows counted by capture, group and kind: rates over them, and how far chance moves these.
//!
//! A rate of one capture says nothing of the next, so intervals come from drawing whole captures
//! with replacement. Flows of quality C (sandbox runs, where all traffic is called an attack) take
//! no part in any mean.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::classes::class_of;
use super::random::Random;
use super::table::Table;
use super::threshold::GROUP_FLOWS_MIN;
use super::validate::FlowScore;

/// Benign flows from which a group has a rate of its own; smaller ones are pooled and listed.
pub const LARGE_GROUP_FLOWS: f64 = 200.0;

/// Draws of captures behind an interval.
pub const DRAWS: u64 = if cfg!(test) { 200 } else { 1_000 };

/// Seed of the draws: the same table gives the same intervals.
const DRAWS_SEED: u64 = 15;

/// Kinds of attack that two or more networks hold, by the name in the headline.
pub const SHARED_KINDS: [(&str, &[&str]); 5] = [
    (
        "scan",
        &["port_scan", "vuln_scan", "iot_malware_scan", "host_scan"],
    ),
    ("SYN flood", &["syn_flood"]),
    ("brute force", &["brute_force"]),
    ("botnet C2", &["c2_botnet"]),
    ("DNS tunnel", &["dns_tunnel"]),
];

/// A figure as mean over seeds, with its range over them and an interval over captures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// Mean over the seeds; `None` where it is not defined.
    pub mean: Option<f64>,
    /// Lowest and highest of the seeds.
    pub range: Option<[f64; 2]>,
    /// 95 % of the draws of captures; `None` where there is only one capture.
    pub interval: Option<[f64; 2]>,
}

impl Figure {
    /// Of the seeds' values, without an interval.
    #[must_use]
    pub fn of_seeds(values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        if values.is_empty() {
            return Self::default();
        }
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            mean: Some(values.iter().sum::<f64>() / values.len() as f64),
            range: Some([low, high]),
            interval: None,
        }
    }
}

/// Flows of one capture, group and kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Capture, by [`Table::captures`].
    pub capture: u32,
    /// Group's name.
    pub group: String,
    /// Kind's name.
    pub kind: String,
    /// Attack or benign.
    pub attack: bool,
    /// Quality C.
    pub apart: bool,
    /// Flows, those of copies and above the cap included.
    pub flows: f64,
    /// Flows of the table.
    pub rows: usize,
}

/// All of them.
pub struct Cells {
    /// In the order of capture, kind and label.
    pub cells: Vec<Cell>,
    of_flow: Vec<usize>,
    weights: Vec<f64>,
    large: BTreeSet<String>,
    /// Per draw how often each capture was drawn.
    draws: Vec<BTreeMap<u32, f64>>,
}

impl Cells {
    /// Counts the flows and makes the draws.
    #[must_use]
    pub fn new(table: &Table, flows: &[FlowScore]) -> Self {
        let first = |flow: &FlowScore| &table.rows[flow.rows.start];
        let key = |flow: &FlowScore| {
            let row = first(flow);
            (row.capture, row.kind, row.attack, row.quality == 'C')
        };
        let keys: BTreeSet<_> = flows.iter().map(key).collect();
        let places: BTreeMap<_, usize> = keys.iter().copied().zip(0..).collect();
        let mut cells: Vec<Cell> = keys
            .iter()
            .map(|&(capture, kind, attack, apart)| Cell {
                capture,
                group: String::new(),
                kind: table.kinds.name(kind).to_string(),
                attack,
                apart,
                flows: 0.0,
                rows: 0,
            })
            .collect();
        let mut of_flow = Vec::with_capacity(flows.len());
        for flow in flows {
            let at = places[&key(flow)];
            let cell = &mut cells[at];
            cell.group = table.groups.name(first(flow).group).to_string();
            cell.flows += flow.weight;
            cell.rows += 1;
            of_flow.push(at);
        }
        let mut benign: BTreeMap<&str, f64> = BTreeMap::new();
        for cell in cells.iter().filter(|cell| !cell.attack && !cell.apart) {
            *benign.entry(&cell.group).or_default() += cell.flows;
        }
        let large = benign
            .into_iter()
            .filter(|(_, flows)| *flows >= LARGE_GROUP_FLOWS)
            .map(|(group, _)| group.to_string())
            .collect();
        let captures: BTreeSet<u32> = cells.iter().map(|cell| cell.capture).collect();
        let captures: Vec<u32> = captures.into_iter().collect();
        let draw = |number: u64| {
            let mut random = Random::new(DRAWS_SEED, number);
            let mut times = BTreeMap::new();
            for _ in 0..captures.len() {
                let capture = captures[random.below(captures.len())];
                *times.entry(capture).or_default() += 1.0;
            }
            times
        };
        Self {
            cells,
            of_flow,
            weights: flows.iter().map(|flow| flow.weight).collect(),
            large,
            draws: (0..DRAWS).map(draw).collect(),
        }
    }

    /// True of a group whose rate counts by itself.
    #[must_use]
    pub fn is_large(&self, group: &str) -> bool {
        self.large.contains(group)
    }

    /// Per cell the flows for which `hit` holds.
    #[must_use]
    pub fn hits(&self, hits: &[bool]) -> Vec<f64> {
        let mut sums = vec![0.0; self.cells.len()];
        for ((at, weight), hit) in self.of_flow.iter().zip(&self.weights).zip(hits) {
            if *hit {
                sums[*at] += weight;
            }
        }
        sums
    }

    /// A figure over the seeds' hits by cell, with its interval.
    pub fn figure(&self, seeds: &[Vec<f64>], of: impl Fn(&Draw<'_>) -> Option<f64>) -> Figure {
        let mut figure = Figure::of_seeds(seeds.iter().map(|hits| self.value(hits, &of)));
        let mean: Vec<f64> = (0..self.cells.len())
            .map(|at| seeds.iter().map(|hits| hits[at]).sum::<f64>() / seeds.len() as f64)
            .collect();
        figure.interval = self.interval(|times| {
            of(&Draw {
                cells: self,
                hits: &mean,
                times: Some(times),
            })
        });
        figure
    }

    /// A figure of one set of hits by cell.
    pub fn value(&self, hits: &[f64], of: impl Fn(&Draw<'_>) -> Option<f64>) -> Option<f64> {
        of(&Draw {
            cells: self,
            hits,
            times: None,
        })
    }

    /// 95 % of the draws of a figure's difference: of the second hits less that of the first.
    pub fn difference(
        &self,
        [first, second]: [&[f64]; 2],
        of: impl Fn(&Draw<'_>) -> Option<f64>,
    ) -> Option<[f64; 2]> {
        self.interval(|times| {
            let drawn = |hits| {
                of(&Draw {
                    cells: self,
                    hits,
                    times: Some(times),
                })
            };
            Some(drawn(second)? - drawn(first)?)
        })
    }

    /// 95 % of a figure over the draws, where four fifths of them give one.
    pub fn interval(&self, of: impl Fn(&BTreeMap<u32, f64>) -> Option<f64>) -> Option<[f64; 2]> {
        let mut values: Vec<f64> = self.draws.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        // Of one capture alone all draws that hold it say the same, and a quarter or more holds none;
        // of two, an eighth.
        if values.len() * 5 < self.draws.len() * 4 {
            return None;
        }
        let at = |share: f64| {
            #[expect(clippy::cast_sign_loss, reason = "a share of a length")]
            let place = (share * (values.len() - 1) as f64).round() as usize;
            values[place]
        };
        Some([at(0.025), at(0.975)])
    }
}

/// Hits by cell, over captures as drawn.
pub struct Draw<'a> {
    cells: &'a Cells,
    hits: &'a [f64],
    times: Option<&'a BTreeMap<u32, f64>>,
}

impl Draw<'_> {
    /// Hits and flows of the cells for which `wanted` holds, by a key.
    fn sums<K: Ord>(
        &self,
        wanted: impl Fn(&Cell) -> bool,
        key: impl Fn(&Cell) -> K,
    ) -> BTreeMap<K, [f64; 2]> {
        let mut sums: BTreeMap<K, [f64; 2]> = BTreeMap::new();
        for (cell, hits) in self.cells.cells.iter().zip(self.hits) {
            let times = self.times.map_or(1.0, |times| {
                times.get(&cell.capture).copied().unwrap_or(0.0)
            });
            if times > 0.0 && !cell.apart && wanted(cell) {
                let sum = sums.entry(key(cell)).or_default();
                sum[0] += times * hits;
                sum[1] += times * cell.flows;
            }
        }
        sums
    }

    /// Share of the flows for which `wanted` holds that are hit.
    pub fn share(&self, wanted: impl Fn(&Cell) -> bool) -> Option<f64> {
        let sums = self.sums(wanted, |_| ());
        sums.get(&()).map(|[hits, flows]| hits / flows)
    }

    /// The same of all cells, quality C included.
    pub fn recall(&self, group: &str, kind: &str, apart: bool) -> Option<f64> {
        let mut sum = [0.0; 2];
        for (cell, hits) in self.cells.cells.iter().zip(self.hits) {
            let times = self.times.map_or(1.0, |times| {
                times.get(&cell.capture).copied().unwrap_or(0.0)
            });
            if cell.attack && cell.apart == apart && cell.group == group && cell.kind == kind {
                sum[0] += times * hits;
                sum[1] += times * cell.flows;
            }
        }
        (sum[1] > 0.0).then(|| sum[0] / sum[1])
    }

    /// Mean over group and kind of the recall, of the kinds for which `wanted` holds.
    pub fn recall_mean(&self, wanted: impl Fn(&str) -> bool) -> Option<f64> {
        mean(
            self.sums(
                |cell| cell.attack && wanted(&cell.kind),
                |cell| (cell.group.clone(), cell.kind.clone()),
            )
            .into_values(),
        )
    }

    /// Recall over scans and SYN floods.
    pub fn scans_and_floods(&self) -> Option<f64> {
        self.recall_mean(|kind| matches!(class_of(kind), "scan" | "syn_flood"))
    }

    /// Mean over the kinds of [`SHARED_KINDS`] of their recall, each the mean over its groups and
    /// kinds; `None` where one of them is absent.
    pub fn shared_kinds(&self) -> Option<f64> {
        let mut sum = 0.0;
        for (_, kinds) in SHARED_KINDS {
            sum += self.recall_mean(|kind| kinds.contains(&kind))?;
        }
        Some(sum / SHARED_KINDS.len() as f64)
    }

    fn benign(&self, wanted: impl Fn(&str) -> bool) -> Vec<[f64; 2]> {
        let wanted = |cell: &Cell| !cell.attack && wanted(&cell.group);
        let sums = self.sums(wanted, |cell| cell.group.clone());
        sums.into_values().collect()
    }

    /// Mean false-positive rate over groups with at least [`LARGE_GROUP_FLOWS`] benign flows.
    pub fn large_groups(&self) -> Option<f64> {
        mean(self.benign(|group| self.cells.is_large(group)).into_iter())
    }

    /// The worst of these groups.
    pub fn worst_group(&self) -> Option<f64> {
        let rates = self.benign(|group| self.cells.is_large(group));
        let rates = rates.into_iter().map(|[hits, flows]| hits / flows);
        rates.max_by(f64::total_cmp)
    }

    /// The smaller groups as one.
    pub fn small_groups(&self) -> Option<f64> {
        self.share(|cell| !cell.attack && !self.cells.is_large(&cell.group))
    }

    /// Mean over groups as the thresholds count it: captures of a group alike, groups of fewer
    /// than [`GROUP_FLOWS_MIN`] flows pooled.
    pub fn as_the_threshold_counts(&self) -> Option<f64> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for cell in self.cells.cells.iter().filter(|cell| !cell.attack) {
            *counts.entry(&cell.group).or_default() += cell.rows;
        }
        let unit = |cell: &Cell| {
            let large = counts.get(cell.group.as_str()).copied().unwrap_or(0) >= GROUP_FLOWS_MIN;
            if large {
                cell.group.clone()
            } else {
                String::new()
            }
        };
        let by_capture = self.sums(|cell| !cell.attack, |cell| (unit(cell), cell.capture));
        let mut units: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
        for ((unit, _), sum) in by_capture {
            units.entry(unit).or_default().push(sum);
        }
        let rates = units
            .into_values()
            .filter_map(|sums| mean(sums.into_iter()));
        mean(rates.map(|rate| [rate, 1.0]))
    }
}

fn mean(sums: impl Iterator<Item = [f64; 2]>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for [hits, flows] in sums {
        sum += hits / flows;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
#[path = "cells_tests.rs"]
mod tests;
