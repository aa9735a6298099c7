//! Labelled captures to a feature table: rows of the engine, cleaned, bounded and counted.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::captures::{self, RunError, ends_of_flow};
use super::card::{Cell, DataCard};
use super::classes::BACKGROUND;
use super::labels::{Label, LabelledCapture};
use super::random::mix;
use super::table::{Row, Table};
use crate::capture_file::Reading;
use crate::engine::{EvaluationRow, FlowReport, JudgedPacket, Sink};
use crate::flow::FEATURES;
use crate::rules::Rule;

/// Rows kept of one group and kind where nothing else is asked for.
pub const CAP_DEFAULT: usize = 10_000;

/// Significant digits to which features agree that count as near where nothing else is asked for.
pub const NEAR_DIGITS: u32 = 3;

/// Most digits that can be asked for: a feature of 32 bits holds no more for certain.
pub const NEAR_DIGITS_MAX: u32 = 6;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most rows of one group and kind.
    pub cap: usize,
    /// Leaves out near copies, those that agree to so many significant digits.
    pub near: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cap: CAP_DEFAULT,
            near: None,
        }
    }
}

/// One flow on its way.
struct Flow {
    capture: usize,
    /// Number of the flow within its capture.
    number: u32,
    attack: bool,
    stands_for: f64,
    rows: Vec<Point>,
}

struct Point {
    packets: u64,
    time_ns: u64,
    host: u32,
    rule: Option<Rule>,
    features: [f32; FEATURES],
}

/// Gathers the rows of one capture by flow.
struct RowSink<'a> {
    labels: &'a LabelledCapture,
    capture: usize,
    first_ns: Option<u64>,
    hosts: HashMap<[u8; 16], u32>,
    by_id: HashMap<u64, usize>,
    flows: Vec<Flow>,
    rows_seen: u64,
    rows_unknown: u64,
    rows_not_finite: u64,
}

impl Sink for RowSink<'_> {
    fn flow(&mut self, _report: &FlowReport) {}
    fn packet(&mut self, _packet: &JudgedPacket) {}

    fn row(&mut self, row: &EvaluationRow<'_>) {
        self.rows_seen += 1;
        let first_ns = *self.first_ns.get_or_insert(row.mono_ns);
        let label = self
            .labels
            .label(&ends_of_flow(&row.ends, row.tunnel.as_ref()));
        if label == Label::Unknown {
            self.rows_unknown += 1;
            return;
        }
        if !row.features.iter().all(|value| value.is_finite()) {
            self.rows_not_finite += 1;
            return;
        }
        let host_count = self.hosts.len() as u32;
        let host = *self.hosts.entry(row.ends.src).or_insert(host_count);
        let flows = &mut self.flows;
        let capture = self.capture;
        let at = *self.by_id.entry(row.flow_id).or_insert_with(|| {
            flows.push(Flow {
                capture,
                number: flows.len() as u32,
                attack: label == Label::Attack,
                stands_for: 1.0,
                rows: Vec::new(),
            });
            flows.len() - 1
        });
        flows[at].rows.push(Point {
            packets: row.packets,
            time_ns: row.mono_ns.saturating_sub(first_ns),
            host,
            rule: row.finding.map(|finding| finding.rule),
            features: *row.features,
        });
    }
}

/// Kind of a row: that of its capture, or [`BACKGROUND`] for the benign rest of an attack's.
#[must_use]
pub fn kind_of(capture: &LabelledCapture, attack: bool) -> &str {
    if attack || !capture.malicious {
        &capture.kind
    } else {
        BACKGROUND
    }
}

/// Builds the table out of labelled captures below `dir`, its frames taken as `reading`
/// says.
///
/// # Errors
/// [`RunError`] for a capture that is missing or cannot be read.
pub fn build(
    dir: &Path,
    labels: &[LabelledCapture],
    options: &Options,
    reading: Reading,
) -> Result<(Table, DataCard), RunError> {
    let outcomes = captures::run(dir, labels, None, reading, |index| RowSink {
        labels: &labels[index],
        capture: index,
        first_ns: None,
        hosts: HashMap::new(),
        by_id: HashMap::new(),
        flows: Vec::new(),
        rows_seen: 0,
        rows_unknown: 0,
        rows_not_finite: 0,
    })?;
    let mut card = DataCard {
        captures: labels.len(),
        near_digits: options.near.unwrap_or(NEAR_DIGITS),
        near_left_out: options.near.is_some(),
        ..DataCard::default()
    };
    // A cell is one group and kind; order and content do not depend on threads.
    let mut cells: BTreeMap<(String, String), Vec<Flow>> = BTreeMap::new();
    let mut flows_seen = Vec::with_capacity(labels.len());
    for (outcome, capture) in outcomes.into_iter().zip(labels) {
        card.packets += outcome.capture.packets;
        card.packets_refused += outcome.capture.packets - outcome.capture.records;
        card.rows_seen += outcome.sink.rows_seen;
        card.rows_unknown += outcome.sink.rows_unknown;
        card.rows_not_finite += outcome.sink.rows_not_finite;
        for warning in &outcome.warnings {
            card.warnings
                .push(format!("{}: {warning}", capture.file.display()));
        }
        let attacks = outcome.sink.flows.iter().filter(|flow| flow.attack);
        let attacks = attacks.count();
        flows_seen.push([attacks, outcome.sink.flows.len() - attacks]);
        for flow in outcome.sink.flows {
            let kind = kind_of(capture, flow.attack).to_string();
            cells
                .entry((capture.group.clone(), kind))
                .or_default()
                .push(flow);
        }
    }
    let mut table = Table::default();
    for ((group, kind), flows) in cells {
        let cell = Cell {
            flows_seen: flows.len(),
            attack: flows.first().is_some_and(|flow| flow.attack),
            ..Cell::default()
        };
        let flows = bounded(without_copies(flows, &mut card), options.cap, &mut card);
        card.cells.insert(
            format!("{group} {kind}"),
            Cell {
                rows: flows.iter().map(|flow| flow.rows.len()).sum(),
                flows: flows.len(),
                ..cell
            },
        );
        push_cell(&mut table, labels, &group, &kind, flows, &mut card);
    }
    card.rows = table.rows.len();
    card.rows_repeated = table.rows.iter().filter(|row| !row.fit).count();
    card.vectors_contradicting = contradicting(&table, bits);
    card.vectors_near_contradicting =
        contradicting(&table, |features| rounded(features, card.near_digits));
    card.count(&table, labels, &flows_seen);
    Ok((table, card))
}

/// Merges flows of one cell whose rows are all the same; the first stands for them. The same with
/// near copies, or only counts them.
fn without_copies(flows: Vec<Flow>, card: &mut DataCard) -> Vec<Flow> {
    let mut kept: Vec<Flow> = Vec::new();
    let mut known: HashMap<[u8; 32], usize> = HashMap::new();
    let mut near: HashMap<[u8; 32], usize> = HashMap::new();
    for flow in flows {
        let free = match known.entry(digest(&flow, bits)) {
            Entry::Occupied(first) => {
                kept[*first.get()].stands_for += 1.0;
                card.flows_copied += 1;
                continue;
            }
            Entry::Vacant(free) => free,
        };
        let rounded = digest(&flow, |features| rounded(features, card.near_digits));
        match near.entry(rounded) {
            Entry::Occupied(first) => {
                card.flows_near_copied += 1;
                if card.near_left_out {
                    free.insert(*first.get());
                    kept[*first.get()].stands_for += 1.0;
                    continue;
                }
            }
            Entry::Vacant(free) => {
                free.insert(kept.len());
            }
        }
        free.insert(kept.len());
        kept.push(flow);
    }
    kept
}

/// Digest of all rows of a flow, each taken by `of`.
fn digest(flow: &Flow, of: impl Fn(&[f32; FEATURES]) -> [u32; FEATURES]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for value in flow.rows.iter().flat_map(|row| of(&row.features)) {
        hasher.update(value.to_le_bytes());
    }
    hasher.finalize().into()
}

/// The bits of each feature rounded to so many significant digits, zero of either sign being one. Two
/// values on either side of a rounding limit differ, however near they are.
fn rounded(features: &[f32; FEATURES], digits: u32) -> [u32; FEATURES] {
    features.map(|value| {
        let mut scaled = f64::from(value.abs());
        if scaled == 0.0 {
            return 0;
        }
        // Brought to `digits` digits before the point by steps that are the same on every machine.
        let (low, high) = (10f64.powi(digits as i32 - 1), 10f64.powi(digits as i32));
        let mut tens = 0;
        while scaled >= high {
            scaled /= 10.0;
            tens += 1;
        }
        while scaled < low {
            scaled *= 10.0;
            tens -= 1;
        }
        let mut whole = scaled.round();
        if whole >= high {
            (whole, tens) = (whole / 10.0, tens + 1);
        }
        let sign = u32::from(value < 0.0) << 31;
        // Six digits take 20 bits, tens of an f32 (−50 to 38) seven.
        #[expect(clippy::cast_sign_loss, reason = "digits and a shifted exponent")]
        let code = ((tens + 64) as u32) << 24 | whole as u32;
        sign | code
    })
}

/// Keeps whole flows in a random but repeatable order until they have `cap` rows; those kept
/// stand for those left out.
fn bounded(flows: Vec<Flow>, cap: usize, card: &mut DataCard) -> Vec<Flow> {
    let seen: f64 = flows.iter().map(|flow| flow.stands_for).sum();
    let count = flows.len();
    let mut order: Vec<Flow> = flows;
    order.sort_by_key(|flow| {
        let place = ((flow.capture as u64) << 32) | u64::from(flow.number);
        (mix(place), place)
    });
    let mut rows = 0;
    let mut kept: Vec<Flow> = order
        .into_iter()
        .take_while(|flow| {
            let fits = rows < cap;
            rows += flow.rows.len();
            fits
        })
        .collect();
    card.flows_capped += (count - kept.len()) as u64;
    let stand: f64 = kept.iter().map(|flow| flow.stands_for).sum();
    for flow in &mut kept {
        flow.stands_for *= seen / stand;
    }
    kept.sort_by_key(|flow| (flow.capture, flow.number));
    kept
}

fn push_cell(
    table: &mut Table,
    labels: &[LabelledCapture],
    group: &str,
    kind: &str,
    flows: Vec<Flow>,
    card: &mut DataCard,
) {
    let group = table.groups.id(group);
    let kind = table.kinds.id(kind);
    let mut seen = HashSet::new();
    let mut seen_near = HashSet::new();
    for flow in flows {
        let labelled = &labels[flow.capture];
        let capture = table.captures.id(&labelled.file.to_string_lossy());
        for point in flow.rows {
            let is_new = seen.insert(bits(&point.features));
            let is_near = !seen_near.insert(rounded(&point.features, card.near_digits));
            card.rows_near_repeated += usize::from(is_new && is_near);
            table.rows.push(Row {
                capture,
                group,
                kind,
                quality: labelled.quality.chars().next().unwrap_or('-'),
                attack: flow.attack,
                flow: flow.number,
                // Three digits are plenty and keep the file small.
                stands_for: ((flow.stands_for * 1e3).round() / 1e3) as f32,
                packets: point.packets,
                time_ms: point.time_ns / 1_000_000,
                host: point.host,
                fit: is_new && !(is_near && card.near_left_out),
                rule: point.rule,
                features: point.features,
            });
        }
    }
}

fn bits(features: &[f32; FEATURES]) -> [u32; FEATURES] {
    features.map(f32::to_bits)
}

/// Vectors, each taken by `of`, that stand in the table with both labels.
fn contradicting(table: &Table, of: impl Fn(&[f32; FEATURES]) -> [u32; FEATURES]) -> usize {
    let mut labels: HashMap<[u32; FEATURES], [bool; 2]> = HashMap::new();
    for row in &table.rows {
        labels.entry(of(&row.features)).or_default()[usize::from(row.attack)] = true;
    }
    labels.values().filter(|seen| seen[0] && seen[1]).count()
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
