//! Made-up tables for tests.

use super::table::{Row, Table};
use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;

/// A table that grows row by row.
#[derive(Default)]
pub(super) struct Made {
    pub(super) table: Table,
}

impl Made {
    /// Adds a row: the first packet of flow 0 of host 0 at time 0, of quality A, fitted, all features 0.
    /// What a test is about it changes.
    pub(super) fn row(&mut self, capture: &str, group: &str, kind: &str, attack: bool) -> &mut Row {
        let table = &mut self.table;
        let row = Row {
            capture: table.captures.id(capture),
            group: table.groups.id(group),
            kind: table.kinds.id(kind),
            quality: 'A',
            attack,
            flow: 0,
            stands_for: 1.0,
            packets: 1,
            time_ms: 0,
            host: 0,
            fit: true,
            rule: None,
            features: [0.0; FEATURES],
        };
        table.rows.push(row);
        let last = table.rows.len() - 1;
        &mut table.rows[last]
    }
}

/// A feature that trees ask, to tell attacks by.
pub(super) fn telling() -> usize {
    FEATURE_SPECS
        .iter()
        .position(|spec| spec.name == "src_barren_share")
        .expect("a feature of the schema")
}
