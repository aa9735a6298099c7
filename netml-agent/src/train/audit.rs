//! Labels that their neighbours contradict: flows whose nearest flows of other captures carry the
//! other label.
//!
//! A flow is its last row, the one that knows most. Equal rows of one capture and label are one.
//! Features are brought to mean 0 and deviation 1 over the reference, a bounded sample of flows in
//! which captures have equal shares and neither label more than half; the distance is the root of the
//! mean square over the features that vary. The nearest [`NEIGHBOURS`] of other captures vote. What is
//! listed is doubtful, not wrong: an attack that looks like ordinary traffic at the level of flows is
//! listed as well as one that is mislabelled. The same table gives the same list on any number of
//! cores.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::captures::parallel;
use super::random::mix;
use super::table::{Row, Table};
use crate::flow::FEATURES;

/// Neighbours that vote.
pub const NEIGHBOURS: usize = 10;

/// Votes for the other label from which a flow is listed.
pub const AGAINST_MIN: usize = 8;

/// Most flows among which neighbours are looked for; a half of each label.
pub const REFERENCE_MAX: usize = 8_000;

/// Most flows that are judged; of more, each capture and label has an equal share.
pub const JUDGED_MAX: usize = 16_000;

/// Most flows listed; the number of all is told.
pub const LISTED_MAX: usize = 1_000;

/// Flows judged by one thread at a time.
const BATCH: usize = 256;

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Audit {
    /// Neighbours that vote, and votes against from which a flow is listed.
    pub neighbours: usize,
    /// See [`AGAINST_MIN`].
    pub against_min: usize,
    /// Flows of the table.
    pub flows: usize,
    /// What is left of them once equal ones of one capture and label are one.
    pub distinct: usize,
    /// Flows of the reference, attack and benign.
    pub reference: [usize; 2],
    /// Features that vary over the reference.
    pub features: usize,
    /// Distinct flows judged.
    pub judged: usize,
    /// Distinct flows with too few others in other captures to be judged.
    pub alone: usize,
    /// Distinct flows judged whose neighbours contradict the label.
    pub contradicted: usize,
    /// The same by group, kind and label.
    pub cells: Vec<AuditCell>,
    /// Those flows, most votes against first, then the nearest; at most [`LISTED_MAX`].
    pub listed: Vec<Doubt>,
}

/// Flows of one group, kind and label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditCell {
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Attack or benign.
    pub attack: bool,
    /// Distinct flows judged.
    pub judged: usize,
    /// Of these contradicted.
    pub contradicted: usize,
}

/// A flow whose neighbours say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Doubt {
    /// Capture.
    pub capture: String,
    /// Flow within the capture, as in the table.
    pub flow: u32,
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Its label.
    pub attack: bool,
    /// Flows of the capture and label with this very row, this one included.
    pub equal_flows: usize,
    /// Its packets.
    pub packets: u64,
    /// Milliseconds since the capture's first row.
    pub time_ms: u64,
    /// Votes for the other label.
    pub against: usize,
    /// Neighbours by kind.
    pub neighbours: BTreeMap<String, usize>,
    /// Capture of the nearest with the other label.
    pub nearest: String,
    /// Mean distance of the neighbours, in deviations of a feature.
    pub distance: f32,
}

/// A distinct flow: its last row and how many flows are equal to it.
struct Candidate<'a> {
    row: &'a Row,
    equal_flows: usize,
}

/// Looks at all flows of a table.
#[must_use]
pub fn audit(table: &Table) -> Audit {
    let flows = table.flows();
    let candidates = distinct(table, &flows);
    let mut reference = Vec::new();
    let mut sizes = [0; 2];
    for (at, attack) in [true, false].into_iter().enumerate() {
        let of_label = (0..candidates.len()).filter(|&at| candidates[at].row.attack == attack);
        let taken = sample(&candidates, of_label.collect(), REFERENCE_MAX / 2);
        sizes[at] = taken.len();
        reference.extend(taken);
    }
    reference.sort_unstable();
    let reference: Vec<&Row> = reference.iter().map(|&at| candidates[at].row).collect();
    let scale = Scale::of(&reference);
    let space: Vec<Vec<f32>> = reference.iter().map(|row| scale.apply(row)).collect();
    let judged = sample(&candidates, (0..candidates.len()).collect(), JUDGED_MAX);
    let batches: Vec<&[usize]> = judged.chunks(BATCH).collect();
    let judgements: Vec<Option<Judgement>> = parallel(batches.len(), |batch| {
        let of = |&at: &usize| judge(candidates[at].row, &reference, &space, &scale);
        batches[batch].iter().map(of).collect::<Vec<_>>()
    })
    .into_iter()
    .flatten()
    .collect();

    let mut audit = Audit {
        neighbours: NEIGHBOURS,
        against_min: AGAINST_MIN,
        flows: flows.len(),
        distinct: candidates.len(),
        reference: sizes,
        features: scale.columns.len(),
        ..Audit::default()
    };
    let mut cells: BTreeMap<(&str, &str, bool), [usize; 2]> = BTreeMap::new();
    for (at, judgement) in judged.iter().zip(judgements) {
        let candidate = &candidates[*at];
        let Some(judgement) = judgement else {
            audit.alone += 1;
            continue;
        };
        audit.judged += 1;
        let row = candidate.row;
        let key = (
            table.groups.name(row.group),
            table.kinds.name(row.kind),
            row.attack,
        );
        let cell = cells.entry(key).or_default();
        cell[0] += 1;
        if judgement.against >= AGAINST_MIN {
            cell[1] += 1;
            audit.contradicted += 1;
            audit
                .listed
                .push(judgement.doubt(table, candidate, &reference));
        }
    }
    audit.cells = cells
        .into_iter()
        .map(
            |((group, kind, attack), [judged, contradicted])| AuditCell {
                group: group.to_string(),
                kind: kind.to_string(),
                attack,
                judged,
                contradicted,
            },
        )
        .collect();
    audit.listed.sort_by(|a, b| {
        let distance = a.distance.total_cmp(&b.distance);
        let place = (&a.capture, a.flow).cmp(&(&b.capture, b.flow));
        b.against.cmp(&a.against).then(distance).then(place)
    });
    audit.listed.truncate(LISTED_MAX);
    audit
}

/// Last rows of the flows, equal ones of one capture and label as one, in the table's order.
fn distinct<'a>(table: &'a Table, flows: &[std::ops::Range<usize>]) -> Vec<Candidate<'a>> {
    let mut candidates: Vec<Candidate<'a>> = Vec::new();
    let mut known = HashMap::new();
    for flow in flows {
        let row = &table.rows[flow.end - 1];
        let key = (row.capture, row.attack, row.features.map(f32::to_bits));
        let at = *known.entry(key).or_insert_with(|| {
            candidates.push(Candidate {
                row,
                equal_flows: 0,
            });
            candidates.len() - 1
        });
        candidates[at].equal_flows += 1;
    }
    candidates
}

/// At most `most` of these, in ascending order: as many of each capture and label, chosen as if by chance.
fn sample(candidates: &[Candidate<'_>], of: Vec<usize>, most: usize) -> Vec<usize> {
    let mut cells: BTreeMap<(u32, bool), Vec<usize>> = BTreeMap::new();
    for at in of {
        let row = candidates[at].row;
        cells.entry((row.capture, row.attack)).or_default().push(at);
    }
    // The largest share at which all shares together are not too many.
    let total = |share: usize| {
        cells
            .values()
            .map(|cell| cell.len().min(share))
            .sum::<usize>()
    };
    let (mut fits, mut too_much) = (0, candidates.len() + 1);
    while too_much - fits > 1 {
        let middle = fits + (too_much - fits) / 2;
        if total(middle) <= most {
            fits = middle;
        } else {
            too_much = middle;
        }
    }
    let mut taken = Vec::new();
    for mut cell in cells.into_values() {
        cell.sort_by_key(|&at| (mix(at as u64), at));
        taken.extend(cell.into_iter().take(fits.max(1)));
    }
    // Only where there are more captures than may be taken.
    taken.sort_by_key(|&at| (mix(at as u64), at));
    taken.truncate(most);
    taken.sort_unstable();
    taken
}

/// Features that vary, with mean and deviation.
struct Scale {
    columns: Vec<(usize, f32, f32)>,
}

impl Scale {
    fn of(rows: &[&Row]) -> Self {
        let columns = (0..FEATURES).filter_map(|at| {
            let values = || rows.iter().map(|row| f64::from(row.features[at]));
            let count = rows.len().max(1) as f64;
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            let deviation = variance.sqrt() as f32;
            (deviation > 1e-6).then_some((at, mean as f32, deviation))
        });
        Self {
            columns: columns.collect(),
        }
    }

    fn apply(&self, row: &Row) -> Vec<f32> {
        let columns = self.columns.iter();
        columns
            .map(|&(at, mean, deviation)| (row.features[at] - mean) / deviation)
            .collect()
    }
}

/// The neighbours of one flow, nearest first, as places in the reference with squared distances.
struct Judgement {
    nearest: Vec<(f32, usize)>,
    against: usize,
    features: usize,
}

/// `None` where fewer flows of other captures are there than vote.
fn judge(row: &Row, reference: &[&Row], space: &[Vec<f32>], scale: &Scale) -> Option<Judgement> {
    let point = scale.apply(row);
    let mut nearest: Vec<(f32, usize)> = Vec::with_capacity(NEIGHBOURS + 1);
    for (at, (other, theirs)) in reference.iter().zip(space).enumerate() {
        if other.capture == row.capture {
            continue;
        }
        let squared = squared_distance(&point, theirs);
        // Of equally near ones the earlier.
        let is_full = nearest.len() == NEIGHBOURS;
        if is_full && nearest.last().is_some_and(|last| squared >= last.0) {
            continue;
        }
        let place = nearest.partition_point(|near| near.0 <= squared);
        nearest.insert(place, (squared, at));
        nearest.truncate(NEIGHBOURS);
    }
    let votes = nearest.iter().map(|near| reference[near.1].attack);
    let against = votes.filter(|&attack| attack != row.attack).count();
    (nearest.len() == NEIGHBOURS).then_some(Judgement {
        nearest,
        against,
        features: scale.columns.len(),
    })
}

/// In eight sums side by side, which the compiler makes one vector of; always in the same order.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let (whole_a, rest_a) = a.as_chunks::<8>();
    let (whole_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..8 {
            let apart = a[lane] - b[lane];
            sums[lane] += apart * apart;
        }
    }
    let rest = rest_a.iter().zip(rest_b).map(|(a, b)| (a - b) * (a - b));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

impl Judgement {
    fn doubt(&self, table: &Table, of: &Candidate<'_>, reference: &[&Row]) -> Doubt {
        let row = of.row;
        let mut neighbours: BTreeMap<String, usize> = BTreeMap::new();
        for (_, at) in &self.nearest {
            let kind = table.kinds.name(reference[*at].kind);
            *neighbours.entry(kind.to_string()).or_default() += 1;
        }
        let others = self.nearest.iter().map(|near| reference[near.1]);
        let nearest = others.clone().find(|other| other.attack != row.attack);
        let distances = self.nearest.iter().map(|near| near.0);
        let features = self.features.max(1) as f32;
        Doubt {
            capture: table.captures.name(row.capture).to_string(),
            flow: row.flow,
            group: table.groups.name(row.group).to_string(),
            kind: table.kinds.name(row.kind).to_string(),
            attack: row.attack,
            equal_flows: of.equal_flows,
            packets: row.packets,
            time_ms: row.time_ms,
            against: self.against,
            neighbours,
            nearest: nearest.map_or_else(String::new, |other| {
                table.captures.name(other.capture).to_string()
            }),
            distance: distances
                .map(|squared| (squared / features).sqrt())
                .sum::<f32>()
                / self.nearest.len().max(1) as f32,
        }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
