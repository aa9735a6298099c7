//! Labelled feature rows of live traffic: the engine's rows in the table that `train` reads.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::bail;
use netml_common::{Extras, PacketRecord};

use super::{Args, Take};
use crate::commands::Misuse;
use crate::engine::{Engine, EvaluationRow, FlowReport, JudgedPacket, Settings, Sink};
use crate::flow::FEATURES;
use crate::train::table::{NameId, Row, Table};

/// Rows up to which they are kept in memory; more are counted and left out.
const ROWS_MAX: usize = 1_000_000;
const LABEL_CHARS_MAX: usize = 32;
/// One purpose, one label: the best quality there is.
const QUALITY: char = 'A';

/// An engine whose rows are kept.
pub(super) struct Rows {
    path: PathBuf,
    engine: Engine,
    sink: Keep,
}

impl Rows {
    /// The rows asked for, if any.
    pub(super) fn of(args: &Args) -> anyhow::Result<Option<Self>> {
        let (Some(path), Some(label)) = (&args.rows, &args.label) else {
            return Ok(None);
        };
        for (option, value) in [("--label", label), ("--group", &args.group)] {
            let fits = (1..=LABEL_CHARS_MAX).contains(&value.len())
                && value
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !fits {
                bail!(Misuse(format!(
                    "{option} takes 1 to {LABEL_CHARS_MAX} of lower-case letters, digits and `_`"
                )));
            }
        }
        let mut table = Table::default();
        let capture = table.captures.id(&args.interface);
        let group = table.groups.id(&args.group);
        let kind = table.kinds.id(label);
        Ok(Some(Self {
            path: path.clone(),
            engine: Engine::new(Settings::default(), None),
            sink: Keep {
                table,
                names: (capture, group, kind),
                attack: label != "benign",
                first_ns: None,
                flows: HashMap::new(),
                hosts: HashMap::new(),
                vectors: HashSet::new(),
                left_out: 0,
            },
        }))
    }

    /// Ends the flows and writes the table; tells what was written.
    pub(super) fn finish(mut self) -> anyhow::Result<String> {
        self.engine.finish(&mut self.sink);
        let Keep {
            mut table,
            left_out,
            ..
        } = self.sink;
        // Rows of one flow stand together, in the order of time.
        table.rows.sort_by_key(|row| row.flow);
        table.write(&self.path)?;
        Ok(format!(
            "; {} rows written to {}, {left_out} left out at the bound",
            table.rows.len(),
            self.path.display()
        ))
    }
}

impl Take for Rows {
    fn packet(&mut self, record: &PacketRecord, extras: &Extras) {
        self.engine.packet_with(record, extras, &mut self.sink);
    }
}

/// Keeps rows with their label.
struct Keep {
    table: Table,
    names: (NameId, NameId, NameId),
    attack: bool,
    first_ns: Option<u64>,
    flows: HashMap<u64, u32>,
    hosts: HashMap<[u8; 16], u32>,
    vectors: HashSet<[u32; FEATURES]>,
    left_out: u64,
}

impl Sink for Keep {
    fn flow(&mut self, _report: &FlowReport) {}

    fn packet(&mut self, _packet: &JudgedPacket) {}

    fn row(&mut self, row: &EvaluationRow<'_>) {
        if self.table.rows.len() >= ROWS_MAX {
            self.left_out += 1;
            return;
        }
        let first_ns = *self.first_ns.get_or_insert(row.mono_ns);
        let flows = self.flows.len() as u32;
        let hosts = self.hosts.len() as u32;
        let (capture, group, kind) = self.names;
        self.table.rows.push(Row {
            capture,
            group,
            kind,
            quality: QUALITY,
            attack: self.attack,
            flow: *self.flows.entry(row.flow_id).or_insert(flows),
            stands_for: 1.0,
            packets: row.packets,
            time_ms: row.mono_ns.saturating_sub(first_ns) / 1_000_000,
            host: *self.hosts.entry(row.ends.src).or_insert(hosts),
            fit: self.vectors.insert(row.features.map(f32::to_bits)),
            rule: row.finding.map(|finding| finding.rule),
            features: *row.features,
        });
    }
}
