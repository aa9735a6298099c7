//! A given model against labelled captures: figures per flow and per packet.
//!
//! Every flow counts once, by its verdict when it ended; every packet by the verdict its flow had
//! when the packet had been judged. UNSURE counts as not detected and stands beside. Packets and
//! flows of unknown label are left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::captures::{self, RunError, ends_of_flow, ends_of_packet};
use super::dataset::kind_of;
use super::labels::{Label, LabelledCapture};
use super::metrics::{Metrics, Tally};
use crate::capture_file::Reading;
use crate::engine::{FlowReport, FlowState, JudgedPacket, Sink};
use crate::model::Model;

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

/// Tallies of one capture: benign and attack apart, since they are of different kinds.
struct JudgeSink<'a> {
    labels: &'a LabelledCapture,
    by_label: [Pair; 2],
    packets_unknown: u64,
}

impl Sink for JudgeSink<'_> {
    fn flow(&mut self, report: &FlowReport) {
        if !matches!(report.state, FlowState::End(_)) {
            return;
        }
        let verdict = &report.verdict;
        let attack = match self
            .labels
            .label(&ends_of_flow(&report.ends, report.beside.tunnel.as_ref()))
        {
            Label::Unknown => return,
            label => label == Label::Attack,
        };
        self.by_label[usize::from(attack)]
            .flow
            .add(attack, verdict.score, verdict.verdict, 1.0);
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
        self.by_label[usize::from(attack)]
            .packet
            .add(attack, packet.score, packet.verdict, 1.0);
    }
}

/// Judges captures below `dir`; frames are taken as `reading` says.
///
/// # Errors
/// [`RunError`] for a capture that is missing or cannot be read.
pub fn evaluate(
    model: &Arc<Model>,
    dir: &Path,
    labels: &[LabelledCapture],
    reading: Reading,
) -> Result<Report, RunError> {
    let outcomes = captures::run(dir, labels, Some(model), reading, |index| JudgeSink {
        labels: &labels[index],
        by_label: Default::default(),
        packets_unknown: 0,
    })?;
    let mut overall = Pair::default();
    let mut by_kind: BTreeMap<String, Pair> = BTreeMap::new();
    let mut by_group: BTreeMap<String, Pair> = BTreeMap::new();
    let mut by_capture = BTreeMap::new();
    let mut warnings = Vec::new();
    let (mut packets, mut packets_refused, mut packets_unknown) = (0, 0, 0);
    for (outcome, labels) in outcomes.iter().zip(labels) {
        packets += outcome.capture.packets;
        packets_refused += outcome.capture.packets - outcome.capture.records;
        packets_unknown += outcome.sink.packets_unknown;
        let file = labels.file.display();
        warnings.extend(outcome.warnings.iter().map(|w| format!("{file}: {w}")));
        let mut capture = Pair::default();
        for (attack, part) in [false, true].into_iter().zip(&outcome.sink.by_label) {
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
        by_capture.insert(file.to_string(), capture.scope());
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
        packets,
        packets_refused,
        packets_unknown,
        overall: overall.scope(),
        by_kind: scopes(by_kind),
        by_group: scopes(by_group),
        by_capture,
        warnings,
    })
}

/// A share in percent, or a dash.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_string(), |share| format!("{:.2}", share * 100.0))
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
            "per flow, %",
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
mod tests;
