use std::collections::BTreeMap;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::*;
use crate::flow::FEATURES;
use crate::rules::Rule;

/// Rows of two captures, one with a rule, with numbers that only unsigned columns hold.
fn sample() -> Table {
    let mut table = Table::default();
    for (flow, rule) in [(0, None), (u32::MAX, Rule::of_name("port-scan")), (7, None)] {
        let attack = rule.is_some();
        let row = Row {
            capture: table
                .captures
                .id(if attack { "a, \"b\".pcap" } else { "c.pcap" }),
            group: table.groups.id("g"),
            kind: table.kinds.id(if attack { "port_scan" } else { "wéb" }),
            quality: if attack { 'A' } else { '-' },
            attack,
            flow,
            stands_for: 1.5,
            packets: u64::from(flow) * 3 + 1,
            time_ms: u64::MAX - u64::from(flow),
            host: 1,
            fit: flow != 7,
            rule,
            features: std::array::from_fn(|i| (i as f32 - 40.0) / 3.0),
        };
        table.rows.push(row);
    }
    table
}

/// A value as the CSV tells it.
fn as_in_csv(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Bool(value) => u8::from(*value).to_string(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        Field::Float(value) => value.to_string(),
        Field::Str(value) => value.clone(),
        other => panic!("a column of {other:?}"),
    }
}

#[test]
fn parquet_holds_what_the_csv_holds() {
    let table = sample();
    let dir = tempfile::tempdir().expect("a folder");
    let [parquet, csv] = ["t.parquet", "t.csv.gz"].map(|name| dir.path().join(name));
    table.write(&parquet).expect("writes");
    table.write(&csv).expect("writes");
    let bytes = std::fs::read(&parquet).expect("reads");
    assert_eq!(
        to_bytes(&table).expect("writes"),
        bytes,
        "the same bytes again"
    );

    let file = std::fs::File::open(&parquet).expect("opens");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let about = reader.metadata().file_metadata();
    let meta: BTreeMap<_, _> = about
        .key_value_metadata()
        .expect("metadata")
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.as_deref()))
        .collect();
    assert_eq!(meta["netml.schema"], Some(schema::digest().as_str()));
    assert_eq!(meta["netml.table"], Some("2"));
    let theirs: Vec<Vec<(String, String)>> = reader
        .get_row_iter(None)
        .expect("rows")
        .map(|row| {
            let row = row.expect("a row");
            let columns = row.get_column_iter();
            columns
                .map(|(name, field)| (name.clone(), as_in_csv(field)))
                .collect()
        })
        .collect();

    let file = std::fs::File::open(&csv).expect("opens");
    let mut lines = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(flate2::read::GzDecoder::new(file));
    let header = lines.headers().expect("a header").clone();
    let ours: Vec<Vec<(String, String)>> = lines
        .records()
        .map(|line| {
            let line = line.expect("a line");
            let pairs = header.iter().zip(line.iter());
            pairs
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect()
        })
        .collect();
    assert_eq!(ours.len(), 3);
    assert_eq!(ours[0].len(), META_COLUMNS.len() + FEATURES);
    assert_eq!(theirs, ours);
}

#[test]
fn rows_beyond_one_row_group_are_all_there() {
    let mut table = sample();
    let row = table.rows[0].clone();
    table.rows = vec![row; GROUP_ROWS + 1];
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.parquet");
    table.write(&path).expect("writes");
    let file = std::fs::File::open(&path).expect("opens");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    assert_eq!(reader.metadata().num_row_groups(), 2);
    assert_eq!(
        reader.metadata().file_metadata().num_rows(),
        GROUP_ROWS as i64 + 1
    );
}

#[test]
fn a_table_in_parquet_is_refused_by_name_where_one_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.parquet");
    sample().write(&path).expect("writes");
    let error = Table::read(&path).expect_err("is refused").to_string();
    assert!(error.contains("t.parquet is Parquet"), "{error}");
}
