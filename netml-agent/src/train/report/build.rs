//! Answers of the seeds to the figures of a report.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    About, BaseRate, BenignLine, CaptureLine, Confusion, ConfusionRow, Curve, DelayLine, Extras,
    Headline, HostAlarms, KindLine, Line, RecallLine, Report, WindowLine,
};
use crate::train::cells::{Cell, Cells, DRAWS, Draw, Figure, SHARED_KINDS};
use crate::train::cross::{Contender, Judged, validation};
use crate::train::forest::{self, Training};
use crate::train::importance;
use crate::train::metrics::{Calibration, Metrics, Tally};
use crate::train::probes;
use crate::train::table::Table;
use crate::train::tables::TRAINING_ONLY;
use crate::train::threshold::{self, EPISODE_GAP_MS, HOST_DAY_MINUTES, MINUTE_MS};
use crate::train::trainer::{TrainError, TrainSettings};
use crate::train::validate::FlowScore;
use crate::verdict::Verdict;

/// Base rates that precision is projected to.
const BASE_RATES: [f64; 3] = [1e-2, 1e-3, 1e-4];

/// Points of a curve.
const CURVE_POINTS: usize = 100;

/// How much is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What the validation gives.
    Plain,
    /// With kinds unseen, importances and probes: some forests more.
    Whole,
}

/// Validates with some seeds and gathers the figures.
///
/// # Errors
/// [`TrainError`] as in training.
pub fn build(
    table: &Table,
    settings: &TrainSettings,
    seeds: &[u64],
    extent: Extent,
) -> Result<Report, TrainError> {
    let mut judged = Vec::new();
    let mut contenders: Vec<Vec<Contender>> = Vec::new();
    for seed in seeds {
        let mut settings = settings.clone();
        settings.forest.seed = *seed;
        let of_seed = Judged::new(table, &settings)?;
        contenders.push(of_seed.contenders(table, &settings)?);
        judged.push(of_seed);
    }
    let Some(first) = judged.first() else {
        return Err(TrainError::Groups("no seed to validate with".into()));
    };
    let cells = Cells::new(table, &first.flows);
    let seen = Seen {
        table,
        judged: &judged,
        cells: &cells,
        weights: Weights::new(table, &first.flows, settings.budget.reference_share),
    };
    let suspicious: Vec<Vec<f64>> = contenders
        .iter()
        .map(|of_seed| cells.hits(&of_seed[0].hits))
        .collect();
    let unsure: Vec<Vec<f64>> = judged
        .iter()
        .map(|seed| {
            let unsure = |answer: &crate::train::cross::Answer| answer.verdict == Verdict::Unsure;
            cells.hits(&seed.answers.iter().map(unsure).collect::<Vec<_>>())
        })
        .collect();
    let lines: Vec<Line> = (0..contenders[0].len())
        .map(|at| {
            let of_seeds: Vec<&Contender> = contenders.iter().map(|seed| &seed[at]).collect();
            seen.line(&of_seeds)
        })
        .collect();
    let extras = match extent {
        Extent::Plain => None,
        Extent::Whole => {
            let mut settings = settings.clone();
            settings.forest.seed = first.seed;
            let training = Training::new(table, |_| true)?;
            let whole = forest::fit(&training, &validation(&settings))?;
            let rate = settings.budget.false_positive_rate;
            Some(Extras {
                unseen: probes::unseen(table, &settings, first)?,
                importances: importance::importances(table, &training, &whole, &first.judges, rate),
                probes: probes::probes(table, &settings, first)?,
            })
        }
    };
    let headline = seen.headline(&suspicious);
    let alike = |draw: &Draw<'_>, share: f64| {
        let (recall, rate) = (draw.recall_mean(|_| true)?, draw.as_the_threshold_counts()?);
        let (hits, alarms) = (recall * share, rate * (1.0 - share));
        (hits > 0.0).then(|| hits / (hits + alarms))
    };
    Ok(Report {
        about: about(table, settings, seeds, first),
        headline,
        lines,
        calibration: seen.calibration(),
        base_rates: BASE_RATES
            .iter()
            .map(|&share| BaseRate {
                share,
                precision: cells.figure(&suspicious, |draw| alike(draw, share)),
            })
            .collect(),
        kinds: seen.kinds(&suspicious),
        recall: seen.recall(&suspicious),
        benign: seen.benign(&suspicious, &unsure),
        host_alarms: seen.host_alarms(),
        windows: seen.windows(),
        delays: seen.delays(),
        confusion: seen.confusion(),
        curves: (0..2)
            .map(|at| seen.curve(&contenders.iter().map(|seed| &seed[at]).collect::<Vec<_>>()))
            .collect(),
        captures: seen.captures(&suspicious),
        extras,
    })
}

fn about(table: &Table, settings: &TrainSettings, seeds: &[u64], first: &Judged) -> About {
    let name = |group: u32| table.groups.name(group).to_string();
    About {
        rows: table.rows.len(),
        captures: table.captures.all().len(),
        groups: table.judged_groups().into_iter().map(name).collect(),
        groups_for_training_only: table
            .groups
            .all()
            .iter()
            .filter(|name| TRAINING_ONLY.contains(&name.as_str()))
            .cloned()
            .collect(),
        folds: first.judges.folds.count,
        seeds: seeds.to_vec(),
        trees: settings.validation_trees,
        false_positive_budget: settings.budget.false_positive_rate,
        reference_share: settings.budget.reference_share,
        draws: DRAWS,
    }
}

/// Weights of the flows, those of quality C being 0.
struct Weights {
    /// Flows as they are.
    flows: Vec<f64>,
    /// Groups and kinds alike, attack in the reference share.
    alike: Vec<f64>,
}

impl Weights {
    fn new(table: &Table, flows: &[FlowScore], share: f64) -> Self {
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
struct Seen<'a> {
    table: &'a Table,
    judged: &'a [Judged],
    cells: &'a Cells,
    weights: Weights,
}

impl Seen<'_> {
    fn attack(&self, flow: usize) -> bool {
        self.table.rows[self.judged[0].flows[flow].rows.start].attack
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

    fn line(&self, seeds: &[&Contender]) -> Line {
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

    fn headline(&self, hits: &[Vec<f64>]) -> Headline {
        let figure = |of: &dyn Fn(&Draw<'_>) -> Option<f64>| self.cells.figure(hits, of);
        let metrics: Vec<Metrics> = self
            .judged
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
    fn calibration(&self) -> Option<Calibration> {
        Calibration::of(self.judged.iter().flat_map(|seed| {
            let answers = seed.answers.iter().zip(&self.weights.alike).enumerate();
            answers
                .filter(|(_, (_, weight))| **weight > 0.0)
                .map(|(flow, (answer, weight))| {
                    (f64::from(answer.probability), self.attack(flow), *weight)
                })
        }))
    }

    fn kinds(&self, hits: &[Vec<f64>]) -> Vec<KindLine> {
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

    fn recall(&self, hits: &[Vec<f64>]) -> Vec<RecallLine> {
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

    fn benign(&self, hits: &[Vec<f64>], unsure: &[Vec<f64>]) -> Vec<BenignLine> {
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

    fn captures(&self, hits: &[Vec<f64>]) -> Vec<CaptureLine> {
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

    /// Answers to the rows of one seed that count.
    fn rows<'b>(&'b self, seed: &'b Judged) -> impl Iterator<Item = (usize, f32, Verdict)> + 'b {
        (0..self.table.rows.len())
            .filter(|&row| self.table.rows[row].quality != 'C')
            .filter_map(|row| {
                let (score, verdict) = seed.row_answer(self.table, row)?;
                Some((row, score, verdict))
            })
    }

    fn windows(&self) -> WindowLine {
        let of_seed = |seed: &Judged| {
            let mut windows: BTreeMap<(u32, u32, u64), (bool, f32, Verdict)> = BTreeMap::new();
            for (at, score, verdict) in self.rows(seed) {
                let row = &self.table.rows[at];
                let key = (row.capture, row.host, row.time_ms / MINUTE_MS);
                let window = windows.entry(key).or_insert((false, 0.0, Verdict::Normal));
                window.0 |= row.attack;
                window.1 = window.1.max(score);
                window.2 = window.2.max(verdict);
            }
            let mut tally = Tally::default();
            for (attack, score, verdict) in windows.into_values() {
                tally.add(attack, score, verdict, 1.0);
            }
            tally.metrics()
        };
        let metrics: Vec<Metrics> = self.judged.iter().map(of_seed).collect();
        let of = |figure: fn(&Metrics) -> Option<f64>| Figure::of_seeds(metrics.iter().map(figure));
        WindowLine {
            attack: metrics[0].attack,
            benign: metrics[0].benign,
            precision: of(|m| m.precision),
            recall: of(|m| m.recall),
            f1: of(|m| m.f1),
            false_positives: of(|m| m.fpr),
            pr_auc: of(|m| m.pr_auc),
            roc_auc: of(|m| m.roc_auc),
        }
    }

    /// Episodes of SUSPICIOUS benign rows of one host, by capture; exposure in active minutes.
    fn host_alarms(&self) -> HostAlarms {
        let mut minutes: BTreeMap<u32, BTreeSet<(u32, u64)>> = BTreeMap::new();
        let mut by_seed: Vec<BTreeMap<u32, f64>> = Vec::new();
        for seed in self.judged {
            let mut alarms: BTreeMap<(u32, u32, u8), Vec<u64>> = BTreeMap::new();
            for (at, _, verdict) in self.rows(seed) {
                let row = &self.table.rows[at];
                if row.attack {
                    continue;
                }
                let minute = (row.host, row.time_ms / MINUTE_MS);
                minutes.entry(row.capture).or_default().insert(minute);
                if verdict == Verdict::Suspicious {
                    // A rule tells its own kind; by the rule and by the forest's class apart.
                    let kind = row
                        .rule
                        .map_or(seed.rows[at].class, |rule| u8::MAX - rule as u8);
                    let key = (row.capture, row.host, kind);
                    alarms.entry(key).or_default().push(row.time_ms);
                }
            }
            let mut episodes: BTreeMap<u32, f64> = BTreeMap::new();
            for ((capture, _, _), mut times) in alarms {
                times.sort_unstable();
                let gaps = times
                    .windows(2)
                    .filter(|pair| pair[1] - pair[0] >= EPISODE_GAP_MS);
                *episodes.entry(capture).or_default() += 1.0 + gaps.count() as f64;
            }
            by_seed.push(episodes);
        }
        let days = |times: &dyn Fn(u32) -> f64| -> f64 {
            let weighed = minutes
                .iter()
                .map(|(capture, set)| times(*capture) * set.len() as f64);
            weighed.sum::<f64>() / HOST_DAY_MINUTES
        };
        let count = |episodes: &BTreeMap<u32, f64>, times: &dyn Fn(u32) -> f64| -> f64 {
            episodes
                .iter()
                .map(|(capture, n)| times(*capture) * n)
                .sum()
        };
        let host_days = days(&|_| 1.0);
        let per_day = |episodes: f64, days: f64| (days > 0.0).then(|| episodes / days);
        let mut figure = Figure::of_seeds(
            by_seed
                .iter()
                .map(|episodes| per_day(count(episodes, &|_| 1.0), host_days)),
        );
        figure.interval = self.cells.interval(|drawn| {
            let times = |capture: u32| drawn.get(&capture).copied().unwrap_or(0.0);
            let sum: f64 = by_seed.iter().map(|episodes| count(episodes, &times)).sum();
            per_day(sum / by_seed.len() as f64, days(&times))
        });
        let sum: f64 = by_seed
            .iter()
            .map(|episodes| count(episodes, &|_| 1.0))
            .sum();
        let episodes = sum / by_seed.len() as f64;
        HostAlarms {
            host_days,
            episodes,
            per_host_day: figure,
            per_host_day_at_most: poisson_upper(episodes) / host_days.max(f64::MIN_POSITIVE),
        }
    }

    fn delays(&self) -> Vec<DelayLine> {
        #[derive(Default)]
        struct Delay {
            captures: BTreeSet<u32>,
            found: f64,
            capture_seconds: Vec<f64>,
            capture_packets: Vec<f64>,
            flow_packets: Vec<f64>,
            flow_seconds: Vec<f64>,
        }
        let mut delays: BTreeMap<(u32, u32), Delay> = BTreeMap::new();
        for seed in self.judged {
            // Per capture and kind: first attack row, first alarm.
            let mut spans: BTreeMap<(u32, u32, u32), (u64, Option<u64>)> = BTreeMap::new();
            for flow in &seed.flows {
                let first = &self.table.rows[flow.rows.start];
                if !first.attack || first.quality == 'C' {
                    continue;
                }
                let alarm = flow.rows.clone().find(|&row| {
                    let answer = seed.row_answer(self.table, row);
                    answer.is_some_and(|(_, verdict)| verdict == Verdict::Suspicious)
                });
                let key = (first.group, first.kind, first.capture);
                let span = spans.entry(key).or_insert((first.time_ms, None));
                span.0 = span.0.min(first.time_ms);
                let delay = delays.entry((first.group, first.kind)).or_default();
                delay.captures.insert(first.capture);
                if let Some(at) = alarm {
                    let row = &self.table.rows[at];
                    span.1 = Some(span.1.map_or(row.time_ms, |ms| ms.min(row.time_ms)));
                    delay.flow_packets.push(row.packets as f64);
                    delay
                        .flow_seconds
                        .push(row.time_ms.saturating_sub(first.time_ms) as f64 / 1e3);
                }
            }
            for (&(group, kind, capture), &(first_ms, alarm_ms)) in &spans {
                let Some(alarm_ms) = alarm_ms else { continue };
                let delay = delays.entry((group, kind)).or_default();
                delay.found += 1.0 / self.judged.len() as f64;
                delay
                    .capture_seconds
                    .push(alarm_ms.saturating_sub(first_ms) as f64 / 1e3);
                // Of each flow its packets at the last evaluation point until then.
                let packets = |flow: &FlowScore| -> u64 {
                    let rows = &self.table.rows[flow.rows.clone()];
                    let is_of_span =
                        rows[0].attack && (rows[0].capture, rows[0].kind) == (capture, kind);
                    let until = rows
                        .iter()
                        .filter(|row| is_of_span && row.time_ms <= alarm_ms);
                    until.map(|row| row.packets).max().unwrap_or(0)
                };
                let sum: u64 = seed.flows.iter().map(packets).sum();
                delay.capture_packets.push(sum as f64);
            }
        }
        delays
            .into_iter()
            .map(|((group, kind), mut delay)| DelayLine {
                group: self.table.groups.name(group).to_string(),
                kind: self.table.kinds.name(kind).to_string(),
                captures_found: delay.found,
                captures: delay.captures.len(),
                capture_seconds: quantile(&mut delay.capture_seconds, 0.5),
                capture_packets: quantile(&mut delay.capture_packets, 0.5),
                flow_packets: pair(&mut delay.flow_packets),
                flow_seconds: pair(&mut delay.flow_seconds),
            })
            .collect()
    }

    fn confusion(&self) -> Confusion {
        let classes = &self.judged[0].judges.classes;
        let mut columns = vec!["NORMAL".to_string(), "UNSURE".to_string()];
        columns.extend(classes.iter().skip(1).cloned());
        let mut sums: BTreeMap<(bool, u32), (f64, Vec<f64>)> = BTreeMap::new();
        for seed in self.judged {
            for (flow, answer) in seed.flows.iter().zip(&seed.answers) {
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
        let seeds = self.judged.len() as f64;
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

    fn curve(&self, seeds: &[&Contender]) -> Curve {
        let mut items: Vec<(f32, bool, f64)> = Vec::new();
        for contender in seeds {
            let weighed = contender.scores.iter().zip(&self.weights.alike).enumerate();
            let counts = weighed.filter(|(_, (_, weight))| **weight > 0.0);
            items
                .extend(counts.map(|(flow, (score, weight))| (*score, self.attack(flow), *weight)));
        }
        items.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all: f64 = items.iter().filter(|item| item.1).map(|item| item.2).sum();
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

/// A quantile of some values, sorting them; the nearest one.
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    #[expect(clippy::cast_sign_loss, reason = "a share of a length")]
    let at = (share * last as f64).round() as usize;
    values.get(at).copied()
}

fn pair(values: &mut [f64]) -> Option<[f64; 2]> {
    Some([quantile(values, 0.5)?, quantile(values, 0.9)?])
}

/// The mean of which a Poisson count of this or less has a chance of 2.5 %: the upper end of the
/// exact interval of 95 % (Garwood, 1936).
pub(super) fn poisson_upper(count: f64) -> f64 {
    if count > 300.0 {
        // Where the first term of the exact sum would be lost, counts are near normal.
        return count + 1.96 * count.sqrt() + 2.0;
    }
    let chance = |mean: f64| {
        let mut term = (-mean).exp();
        let mut sum = term;
        let mut at = 1.0;
        while at <= count {
            term *= mean / at;
            sum += term;
            at += 1.0;
        }
        sum
    };
    let (mut low, mut high) = (0.0, 10.0 + 2.0 * count);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if chance(middle) > 0.025 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}
