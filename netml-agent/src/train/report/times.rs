//! Figures over time and hosts: windows, false alarms by host-day, detection delay.

use std::collections::{BTreeMap, BTreeSet};

use super::seen::Seen;
use super::{DelayLine, HostAlarms, WindowLine};
use crate::train::cells::Figure;
use crate::train::cross::{RowAnswer, Said};
use crate::train::metrics::{Metrics, Tally};
use crate::train::table::Row;
use crate::train::threshold::{EPISODE_GAP_MS, HOST_DAY_MINUTES, MINUTE_MS};
use crate::train::validate::FlowScore;
use crate::verdict::Verdict;

impl Seen<'_> {
    /// Rows of one seed that count, with the answers to them.
    fn rows<'b>(
        &'b self,
        seed: &'b Said<'_>,
    ) -> impl Iterator<Item = (&'b Row, &'b RowAnswer)> + 'b {
        let answered = self.table.rows.iter().zip(&seed.rows);
        answered
            .filter(|(row, _)| row.quality != 'C')
            .filter_map(|(row, answer)| Some((row, answer.as_ref()?)))
    }

    /// By a minute of one host as initiator.
    pub(super) fn windows(&self) -> WindowLine {
        self.by_host(|row| row.time_ms / MINUTE_MS)
    }

    /// By one host as initiator, over its capture.
    pub(super) fn hosts(&self) -> WindowLine {
        self.by_host(|_| 0)
    }

    /// Hosts in windows of their capture: an attack where any row is, and what was said of the worst.
    fn by_host(&self, window: impl Fn(&Row) -> u64) -> WindowLine {
        let of_seed = |seed: &Said<'_>| {
            let mut windows: BTreeMap<(u32, u32, u64), (bool, f32, Verdict)> = BTreeMap::new();
            for (row, answer) in self.rows(seed) {
                let key = (row.capture, row.host, window(row));
                let window = windows.entry(key).or_insert((false, 0.0, Verdict::Normal));
                window.0 |= row.attack;
                window.1 = window.1.max(answer.score);
                window.2 = window.2.max(answer.verdict);
            }
            let mut tally = Tally::default();
            for (attack, score, verdict) in windows.into_values() {
                tally.add(attack, score, verdict, 1.0);
            }
            tally.metrics()
        };
        let metrics: Vec<Metrics> = self.said.iter().map(of_seed).collect();
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
    pub(super) fn host_alarms(&self) -> HostAlarms {
        let mut minutes: BTreeMap<u32, BTreeSet<(u32, u64)>> = BTreeMap::new();
        let mut by_seed: Vec<BTreeMap<u32, f64>> = Vec::new();
        for seed in self.said {
            let mut alarms: BTreeMap<(u32, u32, u8), Vec<u64>> = BTreeMap::new();
            for (row, answer) in self.rows(seed) {
                if row.attack {
                    continue;
                }
                let minute = (row.host, row.time_ms / MINUTE_MS);
                minutes.entry(row.capture).or_default().insert(minute);
                if answer.verdict == Verdict::Suspicious {
                    let key = (row.capture, row.host, answer.kind);
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
            per_host_day_at_most: per_day(poisson_upper(episodes), host_days),
        }
    }

    pub(super) fn delays(&self) -> Vec<DelayLine> {
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
        for seed in self.said {
            // Per capture and kind: first attack row, first alarm.
            let mut spans: BTreeMap<(u32, u32, u32), (u64, Option<u64>)> = BTreeMap::new();
            for flow in seed.flows {
                let first = &self.table.rows[flow.rows.start];
                if !first.attack || first.quality == 'C' {
                    continue;
                }
                let alarm = flow.rows.clone().find(|&row| {
                    let answer = seed.rows[row].as_ref();
                    answer.is_some_and(|answer| answer.verdict == Verdict::Suspicious)
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
                delay.found += 1.0 / self.said.len() as f64;
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
pub(in crate::train) fn poisson_upper(count: f64) -> f64 {
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
