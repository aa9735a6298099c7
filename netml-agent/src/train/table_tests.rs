use super::*;

fn sample() -> Table {
    let mut table = Table::default();
    for (flow, attack) in [(0, true), (0, true), (1, false)] {
        let row = Row {
            capture: table.captures.id("a.pcap"),
            group: table.groups.id("g"),
            kind: table
                .kinds
                .id(if attack { "port_scan" } else { "background" }),
            quality: 'A',
            attack,
            flow,
            stands_for: 1.5,
            packets: 3,
            time_ms: 70_000,
            host: 1,
            fit: true,
            rule: None,
            features: std::array::from_fn(|i| 0.1 + i as f32 / 3.0),
        };
        table.rows.push(row);
    }
    table
}

fn text() -> String {
    let mut out = Vec::new();
    sample().write_csv(&mut out).expect("writes");
    String::from_utf8(out).expect("UTF-8")
}

fn refused(text: &str, word: &str) {
    let error = Table::parse(text.as_bytes(), Path::new("t.csv"))
        .expect_err(word)
        .to_string();
    assert!(error.contains(word), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_table_reads_back_as_it_was_and_writes_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.csv.gz");
    sample().write(&path).expect("writes");
    let first = std::fs::read(&path).expect("reads");
    let back = Table::read(&path).expect("reads");
    assert_eq!(back, sample());
    back.write(&path).expect("writes");
    assert_eq!(std::fs::read(&path).expect("reads"), first);
    let files = std::fs::read_dir(dir.path()).expect("lists").count();
    assert_eq!(files, 1, "nothing is left beside");
}

#[test]
fn rows_of_a_flow_stand_together() {
    assert_eq!(sample().flows(), [0..2, 2..3]);
}

#[test]
fn bad_tables_are_named_by_line_and_column() {
    let good = text();
    refused("", "no feature table");
    refused("a,b,c\n1,2,3\n", "no feature table");
    refused(
        &good.replacen("schema ", "schema 0", 1),
        "another feature schema",
    );
    refused(&good.replacen(",fit,", ",", 1), "column 11 is");
    refused(
        &good.replacen("capture,group", "group,capture", 1),
        "column 1 is \"group\"",
    );
    let header_end = good.find(",0.1,").expect("a row");
    let with = |value: &str| {
        let mut changed = good.clone();
        changed.replace_range(header_end + 1..header_end + 4, value);
        changed
    };
    let first_feature = FEATURE_SPECS[0].name;
    refused(
        &with("NaN"),
        &format!("line 3, column `{first_feature}`: \"NaN\" is not finite"),
    );
    refused(&with("x"), "is not a number");
    refused(&with("0.1,7"), "columns, not");
    refused(&good.replacen(",1.5,", ",-1,", 1), "column `stands_for`");
    refused(&good.replacen("a.pcap,g", ",g", 1), "column `capture`");
}

#[test]
fn a_failed_write_names_the_file_and_leaves_nothing() {
    let error = sample().write(Path::new("/nonexistent/t.csv.gz"));
    let error = error.expect_err("no folder").to_string();
    assert!(error.contains("cannot write the feature table /nonexistent/t.csv.gz"));
}
