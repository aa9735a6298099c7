//! The data card: what was done to rows on their way into a table, and where they are from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::classes::{CLASS_ROWS_MIN, OTHER, class_of};
use super::labels::LabelledCapture;
use super::table::{NameId, Table};

/// Stands for a source, year or licence that the labels do not tell.
pub const NOT_TOLD: &str = "not told";

/// What was done to the rows on their way into the table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DataCard {
    /// Captures read.
    pub captures: usize,
    /// Packets in them.
    pub packets: u64,
    /// Packets without a record (no IP, cut, malformed).
    pub packets_refused: u64,
    /// Rows the engine gave.
    pub rows_seen: u64,
    /// Rows left out because their label is not known.
    pub rows_unknown: u64,
    /// Rows left out because a feature was not finite.
    pub rows_not_finite: u64,
    /// Flows left out because an earlier one of the same group and kind has the very same rows.
    pub flows_copied: u64,
    /// Significant digits to which features agree that are near each other.
    pub near_digits: u32,
    /// Near copies are left out too and their rows are not fitted; else they are only counted.
    pub near_left_out: bool,
    /// Flows that are no copies, but whose rows are those of an earlier flow of the same group and kind
    /// after rounding each feature to `near_digits`.
    pub flows_near_copied: u64,
    /// Flows left out by the cap.
    pub flows_capped: u64,
    /// Rows of the table.
    pub rows: usize,
    /// Rows of the table that repeat a vector of their group and kind: not fitted.
    pub rows_repeated: usize,
    /// Rows of the table that repeat no vector, but after rounding are as an earlier one of their group
    /// and kind.
    pub rows_near_repeated: usize,
    /// Vectors that are attack in one row and benign in another: the floor of the error.
    pub vectors_contradicting: usize,
    /// The same of vectors after rounding.
    pub vectors_near_contradicting: usize,
    /// Per group and kind: rows, flows, flows stood for.
    pub cells: BTreeMap<String, Cell>,
    /// By kind.
    pub by_kind: BTreeMap<String, Count>,
    /// By source, as the labels tell it.
    pub by_source: BTreeMap<String, Count>,
    /// By year.
    pub by_year: BTreeMap<String, Count>,
    /// By licence.
    pub by_licence: BTreeMap<String, Count>,
    /// Captures that ended early or hold packets that were not read, labels that fit nothing, and kinds
    /// of which there is too little.
    pub warnings: Vec<String>,
}

/// Size of one group and kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cell {
    /// Attack or benign.
    pub attack: bool,
    /// Rows in the table.
    pub rows: usize,
    /// Flows in the table.
    pub flows: usize,
    /// Flows in the captures.
    pub flows_seen: usize,
}

/// Size of what is of one kind, source, year or licence.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Count {
    /// Captures with flows of it.
    pub captures: usize,
    /// Flows in the captures, attack and benign.
    pub flows_seen: [usize; 2],
    /// Flows in the table, attack and benign.
    pub flows: [usize; 2],
    /// Rows in the table, attack and benign.
    pub rows: [usize; 2],
}

impl Count {
    fn add(&mut self, flows_seen: usize, size: Size, attack: bool) {
        let at = usize::from(!attack);
        self.flows_seen[at] += flows_seen;
        self.flows[at] += size.flows;
        self.rows[at] += size.rows;
    }
}

#[derive(Clone, Copy, Default)]
struct Size {
    flows: usize,
    rows: usize,
}

impl DataCard {
    /// Counts the table's rows by kind and origin. `flows_seen` are the flows of each capture, in the
    /// order of the labels, attack and benign.
    pub(super) fn count(
        &mut self,
        table: &Table,
        labels: &[LabelledCapture],
        flows_seen: &[[usize; 2]],
    ) {
        let ids: BTreeMap<&str, NameId> = table
            .captures
            .all()
            .iter()
            .map(String::as_str)
            .zip(0..)
            .collect();
        let mut sizes: BTreeMap<(NameId, bool), Size> = BTreeMap::new();
        for flow in table.flows() {
            let row = &table.rows[flow.start];
            let size = sizes.entry((row.capture, row.attack)).or_default();
            size.flows += 1;
            size.rows += flow.len();
        }
        for (capture, seen) in labels.iter().zip(flows_seen) {
            let id = ids.get(capture.file.to_string_lossy().as_ref());
            let told = |text: &str| {
                let text = if text.is_empty() { NOT_TOLD } else { text };
                text.to_string()
            };
            let places = [
                (&mut self.by_source, told(&capture.source)),
                (&mut self.by_year, told(&capture.year)),
                (&mut self.by_licence, told(&capture.licence)),
            ];
            let of = |attack: bool| {
                let size = id.and_then(|id| sizes.get(&(*id, attack)));
                (
                    seen[usize::from(!attack)],
                    size.copied().unwrap_or_default(),
                )
            };
            for (counts, key) in places {
                let count = counts.entry(key).or_default();
                count.captures += 1;
                for attack in [true, false] {
                    let (flows_seen, size) = of(attack);
                    count.add(flows_seen, size, attack);
                }
            }
            for attack in [true, false] {
                let (flows_seen, size) = of(attack);
                if flows_seen > 0 {
                    let kind = super::dataset::kind_of(capture, attack).to_string();
                    let count = self.by_kind.entry(kind).or_default();
                    count.captures += 1;
                    count.add(flows_seen, size, attack);
                }
            }
            if capture.malicious && seen[0] == 0 {
                self.warnings.push(format!(
                    "labels line {}: {} is labelled malicious, and no flow in it is an attack by its addresses and ports",
                    capture.line,
                    capture.file.display()
                ));
            }
        }
        self.warn_of_little(table);
    }

    fn warn_of_little(&mut self, table: &Table) {
        let mut classes: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
        for (kind, count) in self.by_kind.iter().filter(|(_, count)| count.rows[0] > 0) {
            let (rows, kinds) = classes.entry(class_of(kind)).or_default();
            *rows += count.rows[0];
            kinds.push(kind);
        }
        for (class, (rows, kinds)) in classes {
            if rows < CLASS_ROWS_MIN && class != OTHER {
                self.warnings.push(format!(
                    "class {class} (kinds {}): only {rows} rows; with fewer than {CLASS_ROWS_MIN}, those of tables trained with it counted, it is learnt as {OTHER}",
                    kinds.join(", ")
                ));
            }
        }
        let labels: BTreeSet<bool> = table.rows.iter().map(|row| row.attack).collect();
        if let [attack] = labels.into_iter().collect::<Vec<_>>()[..] {
            let label = if attack { "attacks" } else { "benign" };
            self.warnings.push(format!(
                "all rows are {label}: `train` needs both, in this table or in another beside it"
            ));
        }
    }
}

impl std::fmt::Display for DataCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} captures, {} packets ({} without a record), {} rows at evaluation points",
            self.captures, self.packets, self.packets_refused, self.rows_seen
        )?;
        writeln!(
            f,
            "left out: {} rows of unknown label, {} not finite; flows: {} copies, {} above the cap",
            self.rows_unknown, self.rows_not_finite, self.flows_copied, self.flows_capped
        )?;
        writeln!(
            f,
            "near copies, equal to {} digits: {} flows, {}",
            self.near_digits,
            self.flows_near_copied,
            if self.near_left_out {
                "left out too"
            } else {
                "kept"
            }
        )?;
        writeln!(
            f,
            "table: {} rows, {} of them repeat a vector{} (not fitted), {} are near an earlier one; {} vectors contradict, {} nearly",
            self.rows,
            self.rows_repeated,
            if self.near_left_out { " or nearly" } else { "" },
            self.rows_near_repeated,
            self.vectors_contradicting,
            self.vectors_near_contradicting
        )?;
        for (cell, size) in &self.cells {
            let label = if size.attack { "attack" } else { "benign" };
            writeln!(
                f,
                "  {cell}: {label}, {} rows, {} of {} flows",
                size.rows, size.flows, size.flows_seen
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
