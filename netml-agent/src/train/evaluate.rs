//! A given model against labelled captures: figures per flow, packet, host and capture.
//!
//! Every flow counts once, by its verdict when it ended; every packet by the verdict its flow had
//! when the packet had been judged. UNSURE counts as not detected and stands beside. Packets and
//! flows of unknown label are left out. The figures with intervals are those of [`super::report`],
//! drawn from the same flows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::captures::{self, RunError, ends_of_flow, ends_of_packet};
use super::cells::DRAWS;
use super::cross::{Answer, Contender, RowAnswer, Said, alarm_kind};
use super::dataset::kind_of;
use super::labels::{Label, LabelledCapture};
use super::metrics::{Metrics, Tally};
use super::report::{self, About, OneModel};
use super::table::{ROWS_MAX, Row, Table};
use super::validate::FlowScore;
use crate::capture_file::Reading;
use crate::engine::{EvaluationRow, FlowReport, FlowState, JudgedPacket, Sink};
use crate::flow::FEATURES;
use crate::model::{Judgement, Leaves, Model};
use crate::rules::Rule;
use crate::verdict::{FlowVerdict, Verdict};

/// Figures of one scope.
#[derive(Clone, Debug, Serialize)]
pub struct Scope {
    /// Over flows.
    pub flow: Metrics,
    /// Over packets.
    pub packet: Metrics,
}

/// Everything `evaluate` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Identity of the model.
    pub model_id: String,
    /// Its upper threshold.
    pub suspicious: f32,
    /// Its lower threshold.
    pub unsure: f32,
    /// Captures judged.
    pub captures: usize,
    /// Packets in them.
    pub packets: u64,
    /// Packets without a record: no IP, cut or malformed.
    pub packets_refused: u64,
    /// Packets of unknown label.
    pub packets_unknown: u64,
    /// All of it.
    pub overall: Scope,
    /// By kind of attack or traffic; the benign rest of attack captures is "background".
    pub by_kind: BTreeMap<String, Scope>,
    /// By network of origin.
    pub by_group: BTreeMap<String, Scope>,
    /// By file.
    pub by_capture: BTreeMap<String, Scope>,
    /// With intervals over captures, by host, over time and by kind told.
    pub report: report::Report,
    /// What must be told beside the figures.
    pub warnings: Vec<String>,
}

#[derive(Default)]
struct Pair {
    flow: Tally,
    packet: Tally,
}

impl Pair {
    fn merge(&mut self, other: &Self) {
        self.flow.merge(&other.flow);
        self.packet.merge(&other.packet);
    }

    fn scope(&self) -> Scope {
        Scope {
            flow: self.flow.metrics(),
            packet: self.packet.metrics(),
        }
    }
}

/// A row at an evaluation point, with the answer to it.
struct Point {
    packets: u64,
    time_ms: u64,
    host: u32,
    rule: Option<Rule>,
    judged: Judgement,
    answer: RowAnswer,
}

/// A flow on its way.
struct Flow {
    attack: bool,
    points: Vec<Point>,
    /// What was said when it ended.
    verdict: FlowVerdict,
}

/// What came of one capture.
struct JudgeSink<'a> {
    labels: &'a LabelledCapture,
    model: &'a Model,
    leaves: Leaves,
    /// Rows of all captures so far.
    rows: &'a AtomicUsize,
    first_ns: Option<u64>,
    hosts: HashMap<[u8; 16], u32>,
    by_id: HashMap<u64, usize>,
    flows: Vec<Flow>,
    /// Packets: benign and attack apart, since they are of different kinds.
    packets: [Tally; 2],
    packets_unknown: u64,
}

impl Sink for JudgeSink<'_> {
    fn row(&mut self, row: &EvaluationRow<'_>) {
        let first_ns = *self.first_ns.get_or_insert(row.mono_ns);
        let ends = ends_of_flow(&row.ends, row.tunnel.as_ref());
        let attack = match self.labels.label(&ends) {
            Label::Unknown => return,
            label => label == Label::Attack,
        };
        // What is above the bound is counted here and refused in the end.
        if self.rows.fetch_add(1, Ordering::Relaxed) >= ROWS_MAX {
            return;
        }
        let mut judged = [Judgement::default()];
        self.model
            .judge_in(&[*row.features], &mut judged, &mut self.leaves);
        let [judged] = judged;
        let rule = row.finding.map(|finding| finding.rule);
        let of_rule = if rule.is_some() {
            self.model.rule_score()
        } else {
            0.0
        };
        let score = judged.score.max(of_rule);
        let hosts = self.hosts.len() as u32;
        let point = Point {
            packets: row.packets,
            time_ms: row.mono_ns.saturating_sub(first_ns) / 1_000_000,
            host: *self.hosts.entry(row.ends.src).or_insert(hosts),
            rule,
            judged,
            answer: RowAnswer {
                score,
                verdict: self.model.verdict(score),
                kind: alarm_kind(rule, judged.class),
            },
        };
        let flows = &mut self.flows;
        let at = *self.by_id.entry(row.flow_id).or_insert_with(|| {
            flows.push(Flow {
                attack,
                points: Vec::new(),
                verdict: FlowVerdict::default(),
            });
            flows.len() - 1
        });
        flows[at].points.push(point);
    }

    fn flow(&mut self, report: &FlowReport) {
        if let FlowState::End(_) = report.state
            && let Some(at) = self.by_id.remove(&report.flow_id)
        {
            self.flows[at].verdict = report.verdict.clone();
            self.flows[at].verdict.reasons.clear();
        }
    }

    fn packet(&mut self, packet: &JudgedPacket) {
        let attack = match self
            .labels
            .label(&ends_of_packet(&packet.record, packet.tunnel.as_ref()))
        {
            Label::Unknown => {
                self.packets_unknown += 1;
                return;
            }
            label => label == Label::Attack,
        };
        self.packets[usize::from(attack)].add(attack, packet.score, packet.verdict, 1.0);
    }
}

/// What a model said of the flows of captures.
pub(super) struct Answers {
    /// Rows without their features, which have been answered.
    pub(super) table: Table,
    pub(super) classes: Vec<String>,
    pub(super) flows: Vec<FlowScore>,
    pub(super) answers: Vec<Answer>,
    verdicts: Vec<FlowVerdict>,
    rows: Vec<Option<RowAnswer>>,
}

impl Answers {
    fn new(model: &Model) -> Self {
        Self {
            table: Table::default(),
            classes: model.classes().to_vec(),
            flows: Vec::new(),
            answers: Vec::new(),
            verdicts: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds the flows of one capture.
    fn add(&mut self, labels: &LabelledCapture, flows: Vec<Flow>) {
        let capture = self.table.captures.id(&labels.file.to_string_lossy());
        let group = self.table.groups.id(&labels.group);
        for (number, flow) in flows.into_iter().enumerate() {
            let first = self.table.rows.len();
            let kind = self.table.kinds.id(kind_of(labels, flow.attack));
            let mut best = Judgement::default();
            for point in flow.points {
                if point.judged.score > best.score {
                    best = point.judged;
                }
                self.rows.push(Some(point.answer));
                self.table.rows.push(Row {
                    capture,
                    group,
                    kind,
                    quality: labels.quality.chars().next().unwrap_or('-'),
                    attack: flow.attack,
                    flow: number as u32,
                    stands_for: 1.0,
                    packets: point.packets,
                    time_ms: point.time_ms,
                    host: point.host,
                    fit: false,
                    rule: point.rule,
                    features: [0.0; FEATURES],
                });
            }
            let verdict = flow.verdict;
            self.flows.push(FlowScore {
                rows: first..self.table.rows.len(),
                score: verdict.forest_score_max,
                class: best.class,
                rule: verdict.rule.map(|finding| finding.rule),
                weight: 1.0,
            });
            let class = self.class(verdict.kind.as_deref());
            self.answers.push(Answer {
                score: verdict.score,
                probability: verdict.probability,
                verdict: verdict.verdict,
                class,
            });
            self.verdicts.push(verdict);
        }
    }

    /// Index of a kind told; rules tell some that a model may not know.
    fn class(&mut self, kind: Option<&str>) -> usize {
        let Some(kind) = kind else { return 0 };
        let known = self.classes.iter().position(|class| class == kind);
        known.unwrap_or_else(|| {
            self.classes.push(kind.to_string());
            self.classes.len() - 1
        })
    }

    pub(super) fn said(&self) -> Said<'_> {
        Said {
            classes: &self.classes,
            flows: &self.flows,
            answers: &self.answers,
            rows: self.rows.clone(),
        }
    }

    /// The combination and its parts.
    pub(super) fn contenders(&self) -> Vec<Contender> {
        let contender = |name: &str, of: fn(&FlowVerdict) -> (bool, f32)| {
            let (hits, scores) = self.verdicts.iter().map(of).unzip();
            Contender {
                name: name.to_string(),
                hits,
                scores,
            }
        };
        vec![
            contender("forest and rules", |verdict| {
                (verdict.verdict == Verdict::Suspicious, verdict.score)
            }),
            contender("forest alone", |verdict| {
                let hit = verdict.forest == Verdict::Suspicious;
                (hit, verdict.forest_score_max)
            }),
            contender("rules alone", |verdict| {
                let spoke = verdict.rule.is_some();
                (spoke, f32::from(u8::from(spoke)))
            }),
        ]
    }

    /// The report over them.
    pub(super) fn report(&self, model: &Model) -> report::Report {
        let groups = self.table.groups.all().to_vec();
        let trained_on = groups_of(model);
        let about = OneModel {
            model_id: model.id().to_string(),
            suspicious: model.parts().suspicious,
            unsure: model.parts().unsure,
            captures: self.table.captures.all().len(),
            groups_trained_on: groups
                .iter()
                .filter(|group| trained_on.contains(*group))
                .cloned()
                .collect(),
            groups,
            flows: self.flows.len(),
            rows: self.table.rows.len(),
            reference_share: f64::from(model.parts().reference_share),
            draws: DRAWS,
        };
        let contenders = [self.contenders()];
        report::of_answers(
            &self.table,
            &[self.said()],
            &contenders,
            About::Model(about),
        )
    }
}

/// Groups that a model was trained on, as its card tells.
fn groups_of(model: &Model) -> BTreeSet<String> {
    let card: serde_json::Value = serde_json::from_str(model.card()).unwrap_or_default();
    let groups = card.pointer("/data/groups").and_then(|of| of.as_array());
    let names = groups
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str());
    names.map(str::to_string).collect()
}

/// Everything that came of the captures.
struct Run {
    answers: Answers,
    /// Per capture its packets, benign and attack, and its flows.
    by_capture: Vec<([Tally; 2], Range<usize>)>,
    packets: u64,
    packets_refused: u64,
    packets_unknown: u64,
    warnings: Vec<String>,
}

/// Runs the captures through the engine with the model.
fn run(
    model: &Arc<Model>,
    dir: &Path,
    labels: &[LabelledCapture],
    reading: Reading,
) -> Result<Run, RunError> {
    let rows = AtomicUsize::new(0);
    let outcomes = captures::run(dir, labels, Some(model), reading, |index| JudgeSink {
        labels: &labels[index],
        model,
        leaves: Leaves::default(),
        rows: &rows,
        first_ns: None,
        hosts: HashMap::new(),
        by_id: HashMap::new(),
        flows: Vec::new(),
        packets: Default::default(),
        packets_unknown: 0,
    })?;
    if rows.load(Ordering::Relaxed) > ROWS_MAX {
        return Err(RunError::TooLong { rows_max: ROWS_MAX });
    }
    let mut run = Run {
        answers: Answers::new(model),
        by_capture: Vec::new(),
        packets: 0,
        packets_refused: 0,
        packets_unknown: 0,
        warnings: Vec::new(),
    };
    for (outcome, labels) in outcomes.into_iter().zip(labels) {
        run.packets += outcome.capture.packets;
        run.packets_refused += outcome.capture.packets - outcome.capture.records;
        run.packets_unknown += outcome.sink.packets_unknown;
        let file = labels.file.display();
        let warnings = outcome.warnings.iter().map(|w| format!("{file}: {w}"));
        run.warnings.extend(warnings);
        let first = run.answers.flows.len();
        run.answers.add(labels, outcome.sink.flows);
        let flows = first..run.answers.flows.len();
        run.by_capture.push((outcome.sink.packets, flows));
    }
    if run.answers.flows.is_empty() {
        return Err(RunError::NoFlow);
    }
    Ok(run)
}

/// What a model says of the flows of captures below `dir`; frames are taken as `reading` says.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn answers(
    model: &Arc<Model>,
    dir: &Path,
    labels: &[LabelledCapture],
    reading: Reading,
) -> Result<Answers, RunError> {
    Ok(run(model, dir, labels, reading)?.answers)
}

/// Judges captures below `dir`; frames are taken as `reading` says.
///
/// # Errors
/// [`RunError`] for a capture that is missing or cannot be read, for too many rows, and where no flow
/// has a known label.
pub fn evaluate(
    model: &Arc<Model>,
    dir: &Path,
    labels: &[LabelledCapture],
    reading: Reading,
) -> Result<Report, RunError> {
    let run = run(model, dir, labels, reading)?;
    let mut overall = Pair::default();
    let mut by_kind: BTreeMap<String, Pair> = BTreeMap::new();
    let mut by_group: BTreeMap<String, Pair> = BTreeMap::new();
    let mut by_capture = BTreeMap::new();
    for ((packets, flows), labels) in run.by_capture.into_iter().zip(labels) {
        let mut parts = packets.map(|packet| Pair {
            packet,
            ..Pair::default()
        });
        for at in flows {
            let (flow, answer) = (&run.answers.flows[at], &run.answers.answers[at]);
            let attack = run.answers.table.rows[flow.rows.start].attack;
            parts[usize::from(attack)]
                .flow
                .add(attack, answer.score, answer.verdict, 1.0);
        }
        let mut capture = Pair::default();
        for (attack, part) in [false, true].into_iter().zip(&parts) {
            if part.flow.is_empty() && part.packet.is_empty() {
                continue;
            }
            let kind = kind_of(labels, attack).to_string();
            by_kind.entry(kind).or_default().merge(part);
            capture.merge(part);
        }
        by_group
            .entry(labels.group.clone())
            .or_default()
            .merge(&capture);
        overall.merge(&capture);
        by_capture.insert(labels.file.display().to_string(), capture.scope());
    }
    let scopes = |pairs: BTreeMap<String, Pair>| {
        let scope = |(name, pair): (String, Pair)| (name, pair.scope());
        pairs.into_iter().map(scope).collect()
    };
    Ok(Report {
        model_id: model.id().to_string(),
        suspicious: model.parts().suspicious,
        unsure: model.parts().unsure,
        captures: labels.len(),
        packets: run.packets,
        packets_refused: run.packets_refused,
        packets_unknown: run.packets_unknown,
        overall: overall.scope(),
        by_kind: scopes(by_kind),
        by_group: scopes(by_group),
        by_capture,
        report: run.answers.report(model),
        warnings: run.warnings,
    })
}

/// A share in percent, or a dash.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(
        || "-".to_string(),
        |share| report::view::rounded(share * 100.0, 2),
    )
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "model {}, SUSPICIOUS from {:.3}, UNSURE from {:.3}; {} captures, {} packets ({} without a record, {} of unknown label)",
            self.model_id,
            self.suspicious,
            self.unsure,
            self.captures,
            self.packets,
            self.packets_refused,
            self.packets_unknown
        )?;
        writeln!(
            f,
            "{:<34} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8}",
            "per flow, every quality, %",
            "attack",
            "benign",
            "recall",
            "unsure",
            "false+",
            "unsure",
            "PR-AUC",
            "ROC-AUC"
        )?;
        let all = std::iter::once(("overall", &self.overall));
        let named = |scopes: &'_ BTreeMap<String, Scope>| {
            let names: Vec<_> = scopes
                .iter()
                .map(|(name, s)| (name.clone(), s.clone()))
                .collect();
            names
        };
        for (name, scope) in all {
            line(f, name, &scope.flow)?;
        }
        for (name, scope) in named(&self.by_kind).iter().chain(&named(&self.by_group)) {
            line(f, name, &scope.flow)?;
        }
        let packet = &self.overall.packet;
        line(f, "overall, per packet", packet)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

fn line(f: &mut std::fmt::Formatter<'_>, name: &str, m: &Metrics) -> std::fmt::Result {
    writeln!(
        f,
        "{name:<34} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8}",
        m.attack,
        m.benign,
        percent(m.recall),
        percent(super::metrics::ratio(m.unsure_attack, m.attack)),
        percent(m.fpr),
        percent(super::metrics::ratio(m.unsure_benign, m.benign)),
        percent(m.pr_auc),
        percent(m.roc_auc)
    )
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
pub(super) mod tests;
