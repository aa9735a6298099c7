use super::*;
use crate::train::forest::Training;
use crate::train::table::Row;
use crate::train::threshold::{self, Budget};
use crate::train::validate::{self, Folds};

/// Flows of one row: (group, kind, attack, value).
fn table(flows: &[(&str, &str, bool, f32)]) -> Table {
    let mut table = Table::default();
    for (flow, &(group, kind, attack, value)) in flows.iter().enumerate() {
        let row = Row {
            capture: table.captures.id("eth0"),
            group: table.groups.id(group),
            kind: table.kinds.id(kind),
            quality: 'A',
            attack,
            flow: flow as u32,
            stands_for: 1.0,
            packets: 1,
            time_ms: flow as u64 * 1_000,
            host: 0,
            fit: true,
            rule: None,
            features: [value; FEATURES],
        };
        table.rows.push(row);
    }
    table
}

fn written(dir: &Path, name: &str, table: &Table) -> PathBuf {
    let path = dir.join(name);
    table.write(&path).expect("writes");
    path
}

fn refused(base: Option<&Path>, paths: &[PathBuf]) -> String {
    let error = Table::read_all(base, paths).expect_err("is refused");
    error.to_string()
}

#[test]
fn tables_are_merged_by_group_and_kind_and_keep_their_captures_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let a = table(&[("g", "web", false, 1.0), ("h", "scan", true, 2.0)]);
    let b = table(&[
        ("h", "scan", true, 2.0),
        ("g", "web", false, 3.0),
        ("i", "web", false, 1.0),
    ]);
    let [a, b] = [("a.gz", a), ("b.gz", b)].map(|(name, t)| written(dir.path(), name, &t));
    let all = Table::read_all(None, &[a.clone(), b.clone()]).expect("reads");
    assert_eq!(all.groups.all(), ["g", "h", "i"]);
    assert_eq!(all.captures.all(), ["eth0", "eth0 (2)"]);
    assert_eq!(all.flows().len(), 5);
    let fit: Vec<_> = all.rows.iter().map(|row| row.fit).collect();
    assert_eq!(fit, [true, true, false, true, true]);
    assert_eq!(all.sources.len(), 2);
    assert_eq!(all.sources[1].groups, ["h", "g", "i"]);
    assert_eq!(Table::read_all(None, &[a, b]).expect("reads"), all);
}

#[test]
fn one_table_is_that_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let one = table(&[("g", "web", false, 1.0)]);
    let path = written(dir.path(), "a.gz", &one);
    assert_eq!(Table::read_all(None, &[path]).expect("reads"), one);
}

#[test]
fn what_cannot_be_added_is_named_by_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let a = written(dir.path(), "a.gz", &table(&[("g", "web", false, 1.0)]));
    let same = written(dir.path(), "same.gz", &table(&[("g", "web", false, 1.0)]));
    let own = written(dir.path(), "own.gz", &table(&[("g", "web", false, 5.0)]));
    let message = refused(None, &[a.clone(), same]);
    assert!(
        message.contains("same.gz") && message.contains("a.gz"),
        "{message}"
    );
    let message = refused(Some(&a), &[own]);
    assert!(
        message.contains("own.gz") && message.contains("\"g\""),
        "{message}"
    );
    let old = dir.path().join("old.csv");
    std::fs::write(&old, "# netml feature table 2, schema 0123\n").expect("writes");
    let message = refused(None, &[a, old]);
    assert!(
        message.contains("old.csv") && message.contains("0123"),
        "{message}"
    );
}

#[test]
fn a_training_only_group_trains_every_fold_and_judges_none() {
    let mut flows = Vec::new();
    for at in 0..60 {
        let value = at as f32;
        flows.push(("g", "port_scan", true, 100.0 + value));
        flows.push(("g", "web", false, value));
        flows.push(("h", "port_scan", true, 100.5 + value));
        flows.push(("h", "web", false, 0.5 + value));
        // Upside down, so that judging it would show.
        flows.push(("lab", "port_scan", true, value));
        flows.push(("lab", "beacon", true, 0.7 + value));
    }
    let table = table(&flows);
    let folds = Folds::new(&table, 0, 1).expect("two groups");
    assert_eq!(folds.count, 2);
    let lab = 2;
    assert!(table.is_training_only(lab));
    for fold in 0..folds.count {
        let training = Training::new(&table, |row| {
            folds.of_group[table.rows[row].group as usize] != fold
        });
        let classes = training.expect("two classes").classes;
        assert!(classes.contains(&"beacon".to_string()), "{classes:?}");
    }
    let settings = crate::train::forest::Settings {
        trees: 2,
        tree_rows: 100,
        ..Default::default()
    };
    let rows = validate::out_of_fold(&table, &folds, &settings).expect("scores");
    let judged = validate::flow_scores(&table, &rows);
    assert_eq!(judged.len(), 240);
    let is_lab = |row: usize| table.rows[row].group == lab;
    assert!(judged.iter().all(|flow| !is_lab(flow.rows.start)));
    let mut without = table.clone();
    without.rows.retain(|row| row.group != lab);
    let rows_without: Vec<_> = (0..table.rows.len())
        .filter(|&row| !is_lab(row))
        .map(|row| rows[row])
        .collect();
    let flows_without = validate::flow_scores(&without, &rows_without);
    let budget = Budget::default();
    assert_eq!(
        threshold::choose(&table, &rows, &judged, &budget),
        threshold::choose(&without, &rows_without, &flows_without, &budget)
    );
}

#[test]
fn a_lab_and_one_group_are_too_few_to_leave_one_out() {
    let table = table(&[("g", "web", false, 1.0), ("lab", "port_scan", true, 2.0)]);
    let error = Folds::new(&table, 0, 1).expect_err("one group");
    assert!(error.contains("lab"), "{error}");
}
