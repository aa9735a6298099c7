//! Figures over flows: by kind, group and capture, with their intervals.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BenignLine, CaptureLine, Confusion, ConfusionRow, Curve, Headline, KindLine, Line, RecallLine,
};
use crate::train::cells::{Cell, Cells, Draw, Figure, SHARED_KINDS};
use crate::train::cross::{Contender, Said};
use crate::train::metrics::{Calibration, Metrics, Tally};
use crate::train::table::Table;
use crate::train::threshold;
use crate::train::validate::FlowScore;
use crate::verdict::Verdict;

/// Points of a curve.
const CURVE_POINTS: usize = 100;

/// Weights of the flows, those of quality C being 0.
pub(super) struct Weights {
    /// Flows as they are.
    flows: Vec<f64>,
    /// Groups and kinds alike, attack in the reference share.
    alike: Vec<f64>,
}

impl Weights {
    pub(super) fn new(table: &Table, flows: &[FlowScore], share: f64) -> Self {
        let counts: Vec<FlowScore> = flows
            .iter()
            .filter(|flow| table.rows[flow.rows.start].quality != 'C')
            .cloned()
            .collect();
        let attack = threshold::attack_weights(table, &counts);
        let benign = threshold::benign_weights(table, &counts);
        let mut of_counts = attack
            .into_iter()
            .zip(benign)
            .map(|(attack, benign)| share * attack + (1.0 - share) * benign);
        let mut weights = Self {
            flows: Vec::new(),
            alike: Vec::new(),
        };
        for flow in flows {
            let counts = table.rows[flow.rows.start].quality != 'C';
            weights.flows.push(if counts { flow.weight } else { 0.0 });
            let alike = if counts { of_counts.next() } else { None };
            weights.alike.push(alike.unwrap_or(0.0));
        }
        weights
    }
}

/// What the figures are drawn from.
pub(super) struct Seen<'a> {
    pub(super) table: &'a Table,
    /// By seed.
    pub(super) said: &'a [Said<'a>],
    pub(super) cells: &'a Cells,
    pub(super) weights: Weights,
}

impl Seen<'_> {
    fn attack(&self, flow: usize) -> bool {
        self.table.rows[self.said[0].flows[flow].rows.start].attack
    }

    fn metrics(
        &self,
        scores: &[f32],
        verdicts: impl Fn(usize) -> Verdict,
        weights: &[f64],
    ) -> Metrics {
        let mut tally = Tally::default();
        for (flow, (score, weight)) in scores.iter().zip(weights).enumerate() {
            if *weight > 0.0 {
                tally.add(self.attack(flow), *score, verdicts(flow), *weight);
            }
        }
        tally.metrics()
    }

    pub(super) fn line(&self, seeds: &[&Contender]) -> Line {
        let hits: Vec<Vec<f64>> = seeds.iter().map(|c| self.cells.hits(&c.hits)).collect();
        let metrics = |weights: &[f64]| -> Vec<Metrics> {
            let of_seed = |c: &&Contender| self.metrics(&c.scores, |_| Verdict::Normal, weights);
            seeds.iter().map(of_seed).collect()
        };
        let (plain, alike) = (metrics(&self.weights.flows), metrics(&self.weights.alike));
        Line {
            name: seeds[0].name.clone(),
            recall: self.cells.figure(&hits, |draw| draw.recall_mean(|_| true)),
            false_positives: self.cells.figure(&hits, |draw| draw.large_groups()),
            false_positives_captures_alike: self
                .cells
                .figure(&hits, |draw| draw.as_the_threshold_counts()),
            pr_auc: Figure::of_seeds(plain.iter().map(|m| m.pr_auc)),
            pr_auc_alike: Figure::of_seeds(alike.iter().map(|m| m.pr_auc)),
            roc_auc_alike: Figure::of_seeds(alike.iter().map(|m| m.roc_auc)),
        }
    }

    pub(super) fn headline(&self, hits: &[Vec<f64>]) -> Headline {
        let figure = |of: &dyn Fn(&Draw<'_>) -> Option<f64>| self.cells.figure(hits, of);
        let metrics: Vec<Metrics> = self
            .said
            .iter()
            .map(|seed| {
                let scores: Vec<f32> = seed.answers.iter().map(|answer| answer.score).collect();
                let verdict = |flow: usize| seed.answers[flow].verdict;
                self.metrics(&scores, verdict, &self.weights.flows)
            })
            .collect();
        let of = |figure: fn(&Metrics) -> Option<f64>| Figure::of_seeds(metrics.iter().map(figure));
        Headline {
            false_positives: figure(&|draw| draw.large_groups()),
            false_positives_worst: figure(&|draw| draw.worst_group()),
            false_positives_small_groups: figure(&|draw| draw.small_groups()),
            false_alarms_per_1000_flows: figure(&|draw| {
                Some(1_000.0 * draw.share(|cell| !cell.attack)?)
            }),
            recall_scans_and_syn_floods: figure(&|draw| draw.scans_and_floods()),
            recall_shared_kinds: figure(&|draw| draw.shared_kinds()),
            recall: figure(&|draw| draw.recall_mean(|_| true)),
            precision: of(|m| m.precision),
            recall_of_flows: of(|m| m.recall),
            f1: of(|m| m.f1),
            roc_auc: of(|m| m.roc_auc),
        }
    }

    /// Over all seeds' flows together, groups and kinds alike.
    pub(super) fn calibration(&self) -> Option<Calibration> {
        Calibration::of(self.said.iter().flat_map(|seed| {
            let answers = seed.answers.iter().zip(&self.weights.alike).enumerate();
            answers
                .filter(|(_, (_, weight))| **weight > 0.0)
                .map(|(flow, (answer, weight))| {
                    (f64::from(answer.probability), self.attack(flow), *weight)
                })
        }))
    }

    pub(super) fn kinds(&self, hits: &[Vec<f64>]) -> Vec<KindLine> {
        let present = |wanted: &dyn Fn(&str) -> bool| -> usize {
            let cells = self.cells.cells.iter();
            let groups: BTreeSet<&str> = cells
                .filter(|cell| cell.attack && !cell.apart && wanted(&cell.kind))
                .map(|cell| cell.group.as_str())
                .collect();
            groups.len()
        };
        let line = |name: &str, shared: bool, wanted: &dyn Fn(&str) -> bool| KindLine {
            kind: name.to_string(),
            groups: present(wanted),
            shared,
            recall: self.cells.figure(hits, |draw| draw.recall_mean(wanted)),
        };
        let mut lines: Vec<KindLine> = SHARED_KINDS
            .iter()
            .map(|(name, kinds)| line(name, true, &|kind| kinds.contains(&kind)))
            .collect();
        let others: BTreeSet<&str> = self
            .cells
            .cells
            .iter()
            .filter(|cell| cell.attack && !cell.apart)
            .map(|cell| cell.kind.as_str())
            .filter(|kind| SHARED_KINDS.iter().all(|(_, kinds)| !kinds.contains(kind)))
            .collect();
        lines.extend(
            others
                .into_iter()
                .map(|name| line(name, false, &|kind| kind == name)),
        );
        lines
    }

    /// Distinct cells by a key, with captures and flows.
    fn sizes<K: Ord>(
        &self,
        wanted: impl Fn(&Cell) -> bool,
        key: impl Fn(&Cell) -> K,
    ) -> BTreeMap<K, (usize, f64)> {
        let mut sizes: BTreeMap<K, (BTreeSet<u32>, f64)> = BTreeMap::new();
        for cell in self.cells.cells.iter().filter(|cell| wanted(cell)) {
            let size = sizes.entry(key(cell)).or_default();
            size.0.insert(cell.capture);
            size.1 += cell.flows;
        }
        let counted =
            |(key, (captures, flows)): (K, (BTreeSet<u32>, f64))| (key, (captures.len(), flows));
        sizes.into_iter().map(counted).collect()
    }

    pub(super) fn recall(&self, hits: &[Vec<f64>]) -> Vec<RecallLine> {
        let key = |cell: &Cell| (cell.apart, cell.group.clone(), cell.kind.clone());
        self.sizes(|cell| cell.attack, key)
            .into_iter()
            .map(|((apart, group, kind), (captures, flows))| RecallLine {
                recall: self
                    .cells
                    .figure(hits, |draw| draw.recall(&group, &kind, apart)),
                group,
                kind,
                apart,
                captures,
                flows,
            })
            .collect()
    }

    pub(super) fn benign(&self, hits: &[Vec<f64>], unsure: &[Vec<f64>]) -> Vec<BenignLine> {
        self.sizes(
            |cell| !cell.attack && !cell.apart,
            |cell| cell.group.clone(),
        )
        .into_iter()
        .map(|(group, (captures, flows))| {
            let share = |hits: &[Vec<f64>]| {
                self.cells.figure(hits, |draw| {
                    draw.share(|cell| !cell.attack && cell.group == group)
                })
            };
            BenignLine {
                suspicious: share(hits),
                unsure: share(unsure),
                large: self.cells.is_large(&group),
                group,
                captures,
                flows,
            }
        })
        .collect()
    }

    pub(super) fn captures(&self, hits: &[Vec<f64>]) -> Vec<CaptureLine> {
        let captures: BTreeSet<u32> = self.cells.cells.iter().map(|cell| cell.capture).collect();
        captures
            .into_iter()
            .map(|capture| {
                let of_this: Vec<usize> = (0..self.cells.cells.len())
                    .filter(|&at| self.cells.cells[at].capture == capture)
                    .collect();
                let cell = |at: usize| &self.cells.cells[at];
                let flows = |attack: bool| -> f64 {
                    let wanted = of_this.iter().filter(|&&at| cell(at).attack == attack);
                    wanted.map(|&at| cell(at).flows).sum()
                };
                let share = |attack: bool| {
                    Figure::of_seeds(hits.iter().map(|hits| {
                        let wanted = of_this.iter().filter(|&&at| cell(at).attack == attack);
                        let sum: f64 = wanted.map(|&at| hits[at]).sum();
                        (flows(attack) > 0.0).then(|| sum / flows(attack))
                    }))
                };
                CaptureLine {
                    capture: self.table.captures.name(capture).to_string(),
                    group: of_this
                        .first()
                        .map_or(String::new(), |&at| cell(at).group.clone()),
                    kinds: of_this.iter().map(|&at| cell(at).kind.clone()).collect(),
                    attack: flows(true),
                    recall: share(true),
                    benign: flows(false),
                    false_positives: share(false),
                }
            })
            .collect()
    }

    pub(super) fn confusion(&self) -> Confusion {
        let classes = self.said[0].classes;
        let mut columns = vec!["NORMAL".to_string(), "UNSURE".to_string()];
        columns.extend(classes.iter().skip(1).cloned());
        let mut sums: BTreeMap<(bool, u32), (f64, Vec<f64>)> = BTreeMap::new();
        for seed in self.said {
            for (flow, answer) in seed.flows.iter().zip(seed.answers) {
                let row = &self.table.rows[flow.rows.start];
                if row.quality == 'C' {
                    continue;
                }
                let entry = sums
                    .entry((row.attack, row.kind))
                    .or_insert_with(|| (0.0, vec![0.0; columns.len()]));
                let column = match answer.verdict {
                    Verdict::Suspicious => 1 + answer.class.max(1),
                    Verdict::Unsure => 1,
                    Verdict::Normal | Verdict::NoVerdict => 0,
                };
                entry.0 += flow.weight;
                entry.1[column] += flow.weight;
            }
        }
        let seeds = self.said.len() as f64;
        let row =
            |((attack, kind), (flows, answers)): ((bool, u32), (f64, Vec<f64>))| ConfusionRow {
                kind: self.table.kinds.name(kind).to_string(),
                attack,
                flows: flows / seeds,
                shares: answers.into_iter().map(|sum| sum / flows).collect(),
            };
        let mut rows: Vec<ConfusionRow> = sums.into_iter().map(row).collect();
        rows.sort_by(|a, b| b.attack.cmp(&a.attack).then_with(|| a.kind.cmp(&b.kind)));
        Confusion { columns, rows }
    }

    pub(super) fn curve(&self, seeds: &[&Contender]) -> Curve {
        let mut items: Vec<(f32, bool, f64)> = Vec::new();
        for contender in seeds {
            let weighed = contender.scores.iter().zip(&self.weights.alike).enumerate();
            let counts = weighed.filter(|(_, (_, weight))| **weight > 0.0);
            items
                .extend(counts.map(|(flow, (score, weight))| (*score, self.attack(flow), *weight)));
        }
        items.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all: f64 = items.iter().filter(|item| item.1).map(|item| item.2).sum();
        if all <= 0.0 {
            items.clear();
        }
        let mut seen = [0.0; 2];
        let mut points: Vec<[f64; 2]> = Vec::new();
        for same in items.chunk_by(|a, b| a.0.to_bits() == b.0.to_bits()) {
            for (_, attack, weight) in same {
                seen[usize::from(*attack)] += weight;
            }
            let point = [seen[1] / all, seen[1] / (seen[0] + seen[1])];
            let step = 1.0 / CURVE_POINTS as f64;
            if points.last().is_none_or(|last| point[0] - last[0] >= step) {
                points.push(point);
            }
        }
        Curve {
            name: seeds[0].name.clone(),
            points,
        }
    }
}
