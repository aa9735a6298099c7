//! What a table holds and what is doubtful in it, as JSON and Markdown.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::audit::{self, Audit, Doubt};
use super::card::{Count, DataCard};
use super::columns::{self, Columns};
use super::table::{Table, replace};
use super::tables::Source;
use crate::flow::schema;

/// Doubtful flows in the Markdown; the JSON has more.
const DOUBTS_TOLD: usize = 40;

/// Columns of a scope in the Markdown that leak in no way; the JSON has all.
const TELLING_TOLD: usize = 5;

/// The report on one table.
#[derive(Clone, Debug, Serialize)]
pub struct DataReport {
    /// Digest of the feature schema.
    pub schema: String,
    /// Rows of the table.
    pub rows: usize,
    /// Its flows.
    pub flows: usize,
    /// What was read from captures; absent where the table was put together from tables alone.
    pub captures: Option<DataCard>,
    /// Tables whose rows stand before.
    pub added: Vec<Source>,
    /// Columns that say nothing or too much.
    pub columns: Columns,
    /// Flows whose neighbours contradict their label.
    pub audit: Audit,
}

impl DataReport {
    /// Looks at a table; `captures` and `added` tell how it came about.
    #[must_use]
    pub fn of(table: &Table, captures: Option<DataCard>, added: Vec<Source>) -> Self {
        Self {
            schema: schema::digest(),
            rows: table.rows.len(),
            flows: table.flows().len(),
            captures,
            added,
            columns: columns::look(table),
            audit: audit::audit(table),
        }
    }

    /// Writes data.json and data.md into a folder, which is made where it is not there.
    ///
    /// # Errors
    /// Where that cannot be done, with the path.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let told = |path: &Path, error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        std::fs::create_dir_all(dir).map_err(|error| told(dir, error))?;
        let json = serde_json::to_string_pretty(self)?;
        for (name, text) in [
            ("data.json", format!("{json}\n")),
            ("data.md", self.markdown()),
        ] {
            let path = dir.join(name);
            replace(&path, text.as_bytes()).map_err(|error| told(&path, error))?;
        }
        Ok(())
    }

    /// The same for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut page = Page::default();
        page.text += "# The data of a feature table\n";
        page.text += &format!(
            "\n{} rows of {} flows, feature schema {}.\n",
            self.rows,
            self.flows,
            self.schema.chars().take(12).collect::<String>()
        );
        if !self.added.is_empty() {
            page.title("Tables it was put together from", "");
            let row = |source: &Source| {
                let [kinds, groups] = [&source.kinds, &source.groups].map(|names| names.join(", "));
                [
                    source.rows.to_string(),
                    source.flows.to_string(),
                    groups,
                    kinds,
                ]
            };
            page.grid(
                ["rows", "flows", "groups", "kinds"],
                self.added.iter().map(row),
            );
        }
        if let Some(card) = &self.captures {
            tell_captures(&mut page, card);
        }
        tell_columns(&mut page, &self.columns);
        tell_audit(&mut page, &self.audit);
        page.text
    }
}

fn tell_captures(page: &mut Page, card: &DataCard) {
    page.title(
        "Captures",
        "Equal flows of one group and kind are one; near ones agree in each feature after rounding.",
    );
    let near = if card.near_left_out {
        "left out"
    } else {
        "kept"
    };
    page.grid(
        ["", "count"],
        [
            ("captures", card.captures.to_string()),
            ("packets", card.packets.to_string()),
            ("packets without a record", card.packets_refused.to_string()),
            ("rows at evaluation points", card.rows_seen.to_string()),
            (
                "rows of unknown label, left out",
                card.rows_unknown.to_string(),
            ),
            (
                "rows not finite, left out",
                card.rows_not_finite.to_string(),
            ),
            (
                "flows equal to another, left out",
                card.flows_copied.to_string(),
            ),
            (
                &format!("flows near another to {} digits, {near}", card.near_digits),
                card.flows_near_copied.to_string(),
            ),
            (
                "flows above the cap, left out",
                card.flows_capped.to_string(),
            ),
            ("rows", card.rows.to_string()),
            ("rows not fitted", card.rows_repeated.to_string()),
            (
                "rows near an earlier one",
                card.rows_near_repeated.to_string(),
            ),
            (
                "vectors with both labels",
                card.vectors_contradicting.to_string(),
            ),
            (
                "vectors with both labels after rounding",
                card.vectors_near_contradicting.to_string(),
            ),
        ]
        .map(|(name, count)| [name.to_string(), count]),
    );
    if !card.warnings.is_empty() {
        page.text += "\n";
        for warning in &card.warnings {
            page.text += &format!("- {warning}\n");
        }
    }
    for (title, counts) in [
        ("By kind", &card.by_kind),
        ("By source", &card.by_source),
        ("By year", &card.by_year),
        ("By licence", &card.by_licence),
    ] {
        tell_counts(page, title, counts);
    }
}

fn tell_counts(page: &mut Page, title: &str, counts: &BTreeMap<String, Count>) {
    page.title(
        title,
        "Attack and benign; of flows those seen and those in the table.",
    );
    let both = |[attack, benign]: [usize; 2]| format!("{attack} + {benign}");
    let row = |(name, count): (&String, &Count)| {
        [
            name.clone(),
            count.captures.to_string(),
            both(count.flows_seen),
            both(count.flows),
            both(count.rows),
        ]
    };
    page.grid(
        ["", "captures", "flows seen", "flows", "rows"],
        counts.iter().map(row),
    );
}

fn tell_columns(page: &mut Page, columns: &Columns) {
    page.title(
        "Columns that say nothing",
        &format!(
            "One value in {} % of the {} fitted rows or more.",
            columns::NEARLY * 100.0,
            columns.rows
        ),
    );
    let constant = columns.constant.iter();
    page.grid(
        ["column", "value", "rows"],
        constant.map(|of| {
            let share = format!("{:.3} %", of.share * 100.0);
            [of.column.to_string(), of.value.to_string(), share]
        }),
    );
    page.title(
        "Columns that name the group",
        &format!(
            "One column alone, cut into at most {} parts, groups weighing alike: the share of rows whose group it \
             names, what it tells of the group (0 to 1), and the group it tells best from all others. Leaking are \
             those half way or more from chance to certainty, or {} % right on one group; of the others the \
             first {TELLING_TOLD}. All attacks together differ by kind as well; within a kind they do not.",
            columns::BINS,
            columns::LEAK_ONE_GROUP * 100.0
        ),
    );
    let told = columns.scopes.iter().flat_map(|scope| {
        let of_scope = columns
            .telling
            .iter()
            .filter(move |of| of.scope == scope.name);
        let (leaking, other): (Vec<_>, Vec<_>) = of_scope.partition(|of| of.leaks);
        leaking
            .into_iter()
            .chain(other.into_iter().take(TELLING_TOLD))
    });
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    page.grid(
        [
            "rows",
            "column",
            "names the group",
            "chance",
            "information",
            "best told",
            "leaks",
        ],
        told.map(|of| {
            let best = format!("{} ({})", of.best_group, percent(of.best_group_accuracy));
            [
                of.scope.clone(),
                of.column.to_string(),
                percent(of.accuracy),
                percent(of.chance),
                format!("{:.2}", of.information),
                best,
                if of.leaks { "yes" } else { "" }.to_string(),
            ]
        }),
    );
}

fn tell_audit(page: &mut Page, audit: &Audit) {
    page.title(
        "Labels their neighbours contradict",
        &format!(
            "{} of {} judged flows: {} or more of the {} nearest flows of other captures have the other label \
             (features at mean 0 and deviation 1, {} that vary; neighbours out of {} attack and {} benign flows; {} \
             distinct flows of {}; {} had too few others to ask). Doubtful, not wrong: what looks like ordinary traffic \
             is listed as well as what is mislabelled.",
            audit.contradicted,
            audit.judged,
            audit.against_min,
            audit.neighbours,
            audit.features,
            audit.reference[0],
            audit.reference[1],
            audit.distinct,
            audit.flows,
            audit.alone
        ),
    );
    let label = |attack: bool| if attack { "attack" } else { "benign" }.to_string();
    let cells = audit.cells.iter().filter(|cell| cell.contradicted > 0);
    page.grid(
        ["group", "kind", "label", "judged", "contradicted"],
        cells.map(|cell| {
            [
                cell.group.clone(),
                cell.kind.clone(),
                label(cell.attack),
                cell.judged.to_string(),
                cell.contradicted.to_string(),
            ]
        }),
    );
    page.text += &format!(
        "\nThe first {} of those listed in data.json, by votes and distance (in deviations of a feature):\n",
        DOUBTS_TOLD.min(audit.listed.len())
    );
    let doubts = audit.listed.iter().take(DOUBTS_TOLD);
    page.grid(
        [
            "capture",
            "flow",
            "kind",
            "label",
            "packets",
            "neighbours",
            "nearest",
            "distance",
        ],
        doubts.map(|doubt: &Doubt| {
            let neighbours = doubt.neighbours.iter();
            let neighbours: Vec<_> = neighbours
                .map(|(kind, votes)| format!("{votes} {kind}"))
                .collect();
            [
                doubt.capture.clone(),
                doubt.flow.to_string(),
                doubt.kind.clone(),
                label(doubt.attack),
                doubt.packets.to_string(),
                neighbours.join(", "),
                doubt.nearest.clone(),
                format!("{:.2}", doubt.distance),
            ]
        }),
    );
}

/// Markdown on its way.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str, note: &str) {
        self.text += &format!("\n## {title}\n");
        if !note.is_empty() {
            self.text += &format!("{note}\n");
        }
    }

    fn grid<const COLUMNS: usize>(
        &mut self,
        columns: [&str; COLUMNS],
        rows: impl IntoIterator<Item = [String; COLUMNS]>,
    ) {
        self.text += &format!(
            "\n| {} |\n|{}\n",
            columns.join(" | "),
            "---|".repeat(COLUMNS)
        );
        for row in rows {
            // Names come from files: a line is a line and a cell is a cell.
            let row = row.map(|cell| cell.replace('|', "\\|").replace(['\n', '\r'], " "));
            self.text += &format!("| {} |\n", row.join(" | "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FEATURES;
    use crate::train::table::Row;

    fn table() -> Table {
        let mut table = Table::default();
        for flow in 0..600 {
            let attack = flow % 2 == 0;
            let value = if attack { 1.0 } else { 0.0 } + flow as f32 / 1e4;
            let row = Row {
                capture: table.captures.id(&format!("c{}|x", flow % 6)),
                group: table.groups.id(["g", "h", "i"][flow % 3]),
                kind: table.kinds.id(if attack { "port_scan" } else { "web" }),
                quality: 'A',
                // Flow 5 lies among attacks.
                attack,
                flow: flow as u32,
                stands_for: 1.0,
                packets: 1,
                time_ms: 0,
                host: 0,
                fit: true,
                rule: None,
                features: [if flow == 5 { 1.0 } else { value }; FEATURES],
            };
            table.rows.push(row);
        }
        table
    }

    #[test]
    fn both_files_tell_the_same_and_a_second_time_the_same_again() {
        let card = DataCard {
            rows: 600,
            flows_near_copied: 17,
            by_licence: BTreeMap::from([("MIT".to_string(), Count::default())]),
            warnings: vec!["kind x: only 3 rows".into()],
            ..DataCard::default()
        };
        let report = DataReport::of(&table(), Some(card), Vec::new());
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("a/b");
        report.write(&dir).expect("writes");
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("reads");
        let (json, page) = (read("data.json"), read("data.md"));
        let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(told["audit"]["contradicted"], 1);
        assert_eq!(told["audit"]["listed"][0]["flow"], 5);
        assert_eq!(told["captures"]["flows_near_copied"], 17);
        assert_eq!(told["columns"]["telling"][0]["scope"], "benign");
        for part in [
            "600 rows of 600 flows",
            "1 of 600 judged flows",
            "| c5\\|x | 5 | web | benign |",
            "| MIT | 0 |",
            "| flows near another to 0 digits, kept | 17 |",
            "- kind x: only 3 rows",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let again = DataReport::of(&table(), report.captures.clone(), Vec::new());
        assert_eq!(again.markdown(), page);
    }

    #[test]
    fn an_empty_table_has_a_report() {
        let page = DataReport::of(&Table::default(), None, Vec::new()).markdown();
        assert!(page.contains("0 of 0 judged flows"), "{page}");
    }
}
