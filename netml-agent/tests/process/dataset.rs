use std::path::{Path, PathBuf};

use super::fixture::{conversation_file, write};
use super::misuse::{expect, text};
use super::{agent, run, stderr};

const HEADER: &str =
    "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group,year,licence\n";

/// A folder with one capture; its name.
fn captures() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let name = file.file_name().unwrap().to_str().unwrap().to_string();
    (folder, name)
}

fn labels(folder: &Path, lines: &str) -> PathBuf {
    write(folder, "labels.csv", format!("{HEADER}{lines}").as_bytes())
}

/// Makes a table of the captures in a folder; gives its path.
fn table(folder: &Path, labels: &Path, name: &str, more: &[&str]) -> PathBuf {
    let table = folder.join(name);
    let mut arguments = vec![
        "dataset",
        "--captures",
        text(folder),
        "--labels",
        text(labels),
    ];
    arguments.extend(["--output", text(&table)]);
    arguments.extend(more);
    let output = run(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    table
}

/// Names of what lies in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_table_is_reported_and_put_together_again_without_its_captures() {
    let (folder, name) = captures();
    let folder = folder.path();
    let labels = labels(folder, &format!("{name},benign,web,,,,,g,2024,MIT\n"));
    let report = folder.join("report");
    let first = table(folder, &labels, "a.csv.gz", &["--report", text(&report)]);
    assert_eq!(names(&report), ["data.json", "data.md"]);
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report.join("data.json")).unwrap()).unwrap();
    assert_eq!(json["captures"]["by_licence"]["MIT"]["captures"], 1);
    assert_eq!(json["captures"]["by_year"]["2024"]["flows_seen"][1], 2);
    assert_eq!(json["captures"]["by_source"]["not told"]["captures"], 1);
    assert!(json["rows"].as_u64().unwrap() > 2);

    let again = folder.join("b.csv.gz");
    let parquet = folder.join("b.parquet");
    for output in [&again, &parquet] {
        let done = run(&["dataset", "--add", text(&first), "--output", text(output)]);
        assert!(done.status.success(), "{}", stderr(&done));
    }
    assert_eq!(
        std::fs::read(&again).unwrap(),
        std::fs::read(&first).unwrap()
    );
    let parquet = std::fs::read(parquet).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
}

#[test]
fn labels_that_do_not_fit_the_captures_are_named_by_line_and_nothing_is_written() {
    let (folder, name) = captures();
    let folder = folder.path();
    let bytes = std::fs::read(folder.join(&name)).unwrap();
    let table = folder.join("t.csv.gz");
    let refused = |lines: &str, parts: &[&str]| {
        let labels = labels(folder, lines);
        let arguments = [
            "dataset",
            "--captures",
            text(folder),
            "--labels",
            text(&labels),
            "--output",
            text(&table),
        ];
        expect(&arguments, 1, parts);
        assert!(!table.exists());
    };
    let good = format!("{name},benign,web,,,,,g,,\n");
    refused(
        &format!("{good}missing.pcap,benign,web,,,,,g,,\n"),
        &["labels line 3", "there is no capture", "missing.pcap"],
    );
    refused(
        &format!("{good}{name},malicious,scan,,,,none,g,,\n"),
        &[
            "labels.csv line 3, column `file`",
            "in line 2 with another label",
        ],
    );
    refused(&format!("{name},benign\n"), &["labels.csv", "line: 2"]);
    refused(
        &format!("{name},malicious,scan,192.0.2.77,,,unknown,g,,\n"),
        &["no row has a known label", "labels.csv"],
    );
    std::fs::write(folder.join("copy.pcap"), &bytes).unwrap();
    refused(&good, &["no line names copy.pcap", "--skip-unlabelled"]);
    refused(
        &format!("{good}copy.pcap,malicious,scan,,,,none,g,,\n"),
        &["labels.csv line 3: copy.pcap is the same capture as that of line 2"],
    );
}

#[test]
fn a_labels_file_without_a_column_or_a_line_is_refused() {
    let (folder, _) = captures();
    let folder = folder.path();
    for (content, part) in [
        ("file,label\n", "there is no column `kind`"),
        (HEADER, "no capture is listed"),
    ] {
        let labels = write(folder, "labels.csv", content.as_bytes());
        let arguments = [
            "dataset",
            "--captures",
            text(folder),
            "--labels",
            text(&labels),
        ];
        expect(&arguments, 1, &[part, "labels.csv"]);
    }
    let missing = folder.join("no.csv");
    let arguments = [
        "dataset",
        "--captures",
        text(folder),
        "--labels",
        text(&missing),
    ];
    expect(&arguments, 1, &["cannot read the labels", "no.csv"]);
}

#[test]
fn arguments_that_cannot_be_are_misuse() {
    let (folder, name) = captures();
    let folder = folder.path();
    let labels = labels(folder, &format!("{name},benign,web,,,,,g,,\n"));
    let (folder, labels) = (text(folder), text(&labels));
    let whole = ["dataset", "--captures", folder, "--labels", labels];
    for (arguments, part) in [
        (&["dataset"][..], "--captures <DIR>"),
        (&whole[..3], "--labels <FILE>"),
        (&[&whole[..], &["--cap", "0"]].concat(), "--cap 0"),
        (&[&whole[..], &["--near", "7"]].concat(), "1..=6"),
    ] {
        expect(arguments, 2, &[part]);
    }
}

#[test]
fn a_table_with_a_bad_line_is_named_by_line_and_column() {
    let (folder, name) = captures();
    let folder = folder.path();
    let labels = labels(folder, &format!("{name},benign,web,,,,,g,,\n"));
    let first = table(folder, &labels, "a.csv.gz", &[]);
    let mut good = String::new();
    let file = std::fs::File::open(first).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut good).unwrap();
    let mut lines: Vec<&str> = good.lines().collect();
    let fields: Vec<&str> = lines[2].split(',').collect();
    let with = |at: usize, value: &str| {
        let mut fields = fields.clone();
        fields[at] = value;
        fields.join(",")
    };
    let (not_finite, infinite) = (with(13, "NaN"), with(12, "inf"));
    let short = fields[1..].join(",");
    for (line, part) in [
        (
            &not_finite,
            "line 3, column `packet_udp`: \"NaN\" is not finite",
        ),
        (
            &infinite,
            "line 3, column `packet_tcp`: \"inf\" is not finite",
        ),
        (&short, "line 3: 92 columns, not 93"),
    ] {
        lines[2] = line;
        let bad = write(folder, "bad.csv", lines.join("\n").as_bytes());
        let output = folder.join("out.csv.gz");
        let arguments = ["dataset", "--add", text(&bad), "--output", text(&output)];
        expect(&arguments, 1, &["bad.csv", part]);
        expect(
            &["train", text(&bad), "--output", text(&output)],
            1,
            &["bad.csv", part],
        );
        assert!(!output.exists());
    }
    let swapped = good.replacen("capture,group", "group,capture", 1);
    let bad = write(folder, "bad.csv", swapped.as_bytes());
    expect(
        &["train", text(&bad)],
        1,
        &["bad.csv", "column 1 is \"group\", not \"capture\""],
    );
}

#[test]
fn one_class_alone_cannot_be_trained_and_that_is_told_before() {
    let (folder, name) = captures();
    let folder = folder.path();
    let labels = labels(folder, &format!("{name},benign,web,,,,,g,,\n"));
    let first = folder.join("a.csv.gz");
    let arguments = [
        "dataset",
        "--captures",
        text(folder),
        "--labels",
        text(&labels),
    ];
    let output = run(&[&arguments[..], &["--output", text(&first)]].concat());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("warning: all rows are benign"), "{told}");
    let model = folder.join("m.model");
    expect(
        &["train", text(&first), "--output", text(&model)],
        1,
        &["a.csv.gz"],
    );
    assert!(!model.exists());
}

#[test]
fn a_full_disk_is_named_and_leaves_what_was_there() {
    let (folder, name) = captures();
    let folder = folder.path();
    let labels = labels(folder, &format!("{name},benign,web,,,,,g,,\n"));
    let first = table(folder, &labels, "a.csv.gz", &[]);
    let before = std::fs::read(&first).unwrap();
    let listed = names(folder);
    // A file may have no byte here, which the writer meets as it would a full disk.
    let program = agent().get_program().to_str().unwrap().to_string();
    let script = format!(
        "trap '' XFSZ; ulimit -f 0; exec {program} dataset --add {} --output {}",
        text(&first),
        text(&first)
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("cannot write the feature table"), "{told}");
    assert!(told.contains("a.csv.gz"), "{told}");
    assert_eq!(std::fs::read(&first).unwrap(), before);
    assert_eq!(names(folder), listed);
}
