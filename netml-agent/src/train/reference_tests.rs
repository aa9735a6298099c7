//! The trainer against known figures: NSL-KDD, with scikit-learn's forest beside it.
//!
//! `NETML_DATA` names the captures' folder with `tabular/`; `NETML_PYTHON` a Python that has
//! scikit-learn (`cargo xtask test --all` makes one outside the repository).

use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;

use super::forest::{self, Settings, Training, asked_features};
use super::table::{Row, Table};
use super::testing::Made;

const NOT_NUMERIC: [&str; 6] = [
    "protocol_type",
    "service",
    "flag",
    "label",
    "attack",
    "difficulty",
];

fn long_data() -> Option<PathBuf> {
    let data = std::env::var_os("NETML_DATA").map(PathBuf::from);
    let long = std::env::var_os("NETML_LONG");
    let folder = data
        .filter(|_| long.is_some())
        .map(|dir| dir.join("tabular"));
    let folder = folder.filter(|dir| dir.is_dir());
    if folder.is_none() {
        eprintln!("skipped: NETML_LONG and NETML_DATA do not ask for NSL-KDD");
    }
    folder
}

/// NSL-KDD in the places of features that trees ask: the trainer takes any numbers there.
fn nsl_kdd(path: &Path) -> Table {
    let file = std::fs::File::open(path).expect("the file");
    let mut reader = csv::Reader::from_reader(GzDecoder::new(file));
    let header = reader.headers().expect("a header").clone();
    let label = header
        .iter()
        .position(|name| name == "label")
        .expect("labels");
    let numeric: Vec<usize> = (0..header.len())
        .filter(|&at| !NOT_NUMERIC.contains(&&header[at]))
        .collect();
    let places = asked_features();
    assert_eq!(numeric.len(), 38);
    assert!(numeric.len() <= places.len());
    let mut made = Made::default();
    for (flow, record) in reader.records().enumerate() {
        let record = record.expect("a row");
        let attack = &record[label] != "normal";
        let kind = if attack { "attack" } else { "normal" };
        let row = made.row("nsl-kdd", "nsl-kdd", kind, attack);
        row.flow = flow as u32;
        for (place, column) in places.iter().zip(&numeric) {
            row.features[*place] = record[*column].parse().expect("a number");
        }
    }
    made.table
}

/// Accuracy on `test` of forests grown on the rows of `table` for which `wanted` holds.
fn accuracy(table: &Table, wanted: impl Fn(usize) -> bool, test: &[Row], seed: u64) -> f64 {
    let training = Training::new(table, wanted).expect("two classes");
    let settings = Settings {
        seed,
        ..Settings::default()
    };
    let grown = forest::fit(&training, &settings).expect("fits");
    let features: Vec<_> = test.iter().map(|row| row.features).collect();
    let judged = grown.judge_all(&features);
    let right = judged.iter().zip(test);
    let right = right.filter(|((score, _), row)| (*score >= 0.5) == row.attack);
    right.count() as f64 / test.len() as f64
}

#[test]
fn nsl_kdd_comes_out_as_it_does_elsewhere() {
    let Some(dir) = long_data() else { return };
    let paths = ["nsl_kdd_train.csv.gz", "nsl_kdd_test.csv.gz"].map(|name| dir.join(name));
    let [train, test] = [nsl_kdd(&paths[0]), nsl_kdd(&paths[1])];
    let own: Vec<f64> = (1..=5)
        .map(|seed| accuracy(&train, |_| true, &test.rows, seed))
        .collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    eprintln!(
        "accuracy on KDDTest+, five seeds: {own:?}, mean {:.4}",
        mean(&own)
    );
    for accuracy in &own {
        assert!((0.74..=0.81).contains(accuracy), "{own:?}");
    }
    let Some(python) = std::env::var_os("NETML_PYTHON") else {
        eprintln!("skipped: NETML_PYTHON does not name a Python with scikit-learn");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("checks/reference.py");
    let output = Command::new(python)
        .arg(script)
        .arg("nsl-kdd")
        .args(&paths)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let theirs: Vec<f64> =
        serde_json::from_value(told["accuracies"].clone()).expect("five numbers");
    eprintln!("scikit-learn: {theirs:?}, mean {:.4}", mean(&theirs));
    assert_eq!(theirs.len(), own.len());
    assert!(
        (mean(&own) - mean(&theirs)).abs() <= 0.015,
        "{own:?} {theirs:?}"
    );
}
