use std::path::{Path, PathBuf};

use netml_agent::model::{Model, embedded_bytes};

use super::fixture::{conversation_file, write};
use super::misuse::{expect, text};
use super::model::changed;
use super::{run, stderr};

/// The built-in model, made to replace another, that calls everything SUSPICIOUS where `wary`.
fn own(folder: &Path, name: &str, parent: &str, wary: bool) -> PathBuf {
    let bytes = changed(|parts| {
        parts.card = serde_json::json!({ "parent": { "model": parent } }).to_string();
        if wary {
            (parts.suspicious, parts.unsure) = (f32::MIN_POSITIVE, f32::MIN_POSITIVE);
        }
    });
    write(folder, name, &bytes)
}

/// A folder with an ordinary capture and its label, and the identity of the built-in model.
fn judge() -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let capture = conversation_file(folder.path());
    let name = capture.file_name().unwrap().to_str().unwrap().to_owned();
    let labels = format!(
        "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\n{name},benign,web,,,,,office\n"
    );
    let labels = write(folder.path(), "labels.csv", labels.as_bytes());
    let id = Model::from_bytes(embedded_bytes()).unwrap().id().to_owned();
    (folder, labels, id)
}

#[test]
fn a_model_that_alarms_more_is_named_worse_and_not_served() {
    let (folder, labels, id) = judge();
    let new = own(folder.path(), "new.model", &id, true);
    let out = folder.path().join("out.model");
    let arguments = [
        "model",
        "compare",
        "built-in",
        text(&new),
        "--captures",
        text(folder.path()),
        "--labels",
        text(&labels),
        "--output",
        text(&out),
    ];
    expect(
        &arguments,
        1,
        &["is worse than model", "benign flows SUSPICIOUS"],
    );
    let told = String::from_utf8(run(&arguments).stdout).unwrap();
    assert!(
        told.contains("100.00 %") && told.contains(" worse"),
        "{told}"
    );
    assert!(
        told.contains("not judged, for want of such flows: recall"),
        "{told}"
    );
    let serve = |model: &Path, parts: &[&str]| {
        let arguments = [
            "run",
            "--no-collector",
            "--interface",
            "no-such0",
            "--model",
        ];
        expect(&[&arguments[..], &[text(model)]].concat(), 1, parts);
    };
    serve(&new, &["not compared with it", "model compare"]);
    serve(
        &out,
        &[
            "did worse than",
            "benign flows SUSPICIOUS",
            "--accept-worse-model",
        ],
    );
    // Told otherwise, the model is no hindrance; the interface is.
    let arguments = [
        "run",
        "--no-collector",
        "--interface",
        "no-such0",
        "--accept-worse-model",
        "--model",
        text(&out),
    ];
    let output = run(&arguments);
    assert!(
        !stderr(&output).contains("did worse"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_model_that_does_as_well_is_served_and_its_card_tells_by_what() {
    let (folder, labels, id) = judge();
    let new = own(folder.path(), "new.model", &id, false);
    let out = folder.path().join("out.model");
    let output = run(&[
        "model",
        "compare",
        "built-in",
        text(&new),
        "--captures",
        text(folder.path()),
        "--labels",
        text(&labels),
        "--output",
        text(&out),
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["with"], id.as_str());
    assert_eq!(told["worse"], serde_json::json!([]));
    let inspected = run(&["model", "inspect", text(&out)]);
    let inspected = String::from_utf8(inspected.stdout).unwrap();
    assert!(
        inspected.contains(&format!("compared with    {id}")),
        "{inspected}"
    );
    let arguments = [
        "run",
        "--no-collector",
        "--interface",
        "no-such0",
        "--model",
        text(&out),
    ];
    let refused = stderr(&run(&arguments));
    assert!(!refused.contains("compared"), "{refused}");
}

#[test]
fn a_comparison_with_another_than_the_parent_is_not_written() {
    let (folder, labels, _) = judge();
    let new = own(folder.path(), "new.model", "0123456789ab", false);
    let out = folder.path().join("out.model");
    let arguments = [
        "model",
        "compare",
        "built-in",
        text(&new),
        "--captures",
        text(folder.path()),
        "--labels",
        text(&labels),
    ];
    let written = [&arguments[..], &["--output", text(&out)]].concat();
    expect(
        &written,
        2,
        &["made to replace model 0123456789ab", "--parent FILE"],
    );
    assert!(!out.exists());
    assert!(run(&arguments).status.success(), "told, not written");
    let wrong = [&arguments[..], &["--alarm-tolerance=-1"]].concat();
    expect(&wrong, 2, &["--alarm-tolerance -1 is not from 0 to 100"]);
}
