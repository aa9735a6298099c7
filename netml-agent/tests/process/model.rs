use netml_agent::model::{ModelParts, embedded_bytes, encode};

use super::fixture::write;
use super::misuse::{expect, text};
use super::{run, stderr};

fn out(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&out(arguments)).unwrap()
}

/// The built-in model with a change.
pub(crate) fn changed(change: impl FnOnce(&mut ModelParts)) -> Vec<u8> {
    let mut parts = netml_agent::model::embedded().unwrap().parts().clone();
    // Its self-test holds for the thresholds it was made with.
    parts.card = "{}".into();
    change(&mut parts);
    encode(&parts).unwrap()
}

#[test]
fn the_built_in_model_is_told_and_holds() {
    let id = netml_agent::model::embedded().unwrap().id().to_string();
    let told = out(&["model", "inspect"]);
    for part in [
        &id,
        "SUSPICIOUS from",
        "calibration",
        "movement",
        "syn_flood",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let told = json(&["model", "inspect", "--json"]);
    assert_eq!(told["id"], id.as_str());
    assert!(told["card"]["data"]["rows"].as_u64() > Some(1000));
    let verified = out(&["model", "verify"]);
    assert_eq!(verified.lines().count(), 5, "{verified}");
    assert!(verified.lines().all(|line| line.starts_with("passed")));
}

#[test]
fn a_file_that_is_no_usable_model_fails_verification_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let good = embedded_bytes();
    let mut flipped = good.to_vec();
    flipped[good.len() / 2] ^= 4;
    let mut newer = good.to_vec();
    newer[8] = 9;
    let missing = folder.path().join("missing.model");
    let foreign_schema = changed(|parts| parts.schema_digest = "0".repeat(64));
    for (name, bytes, parts) in [
        (
            "foreign",
            &b"#!/bin/sh"[..],
            &["not a netml model", "train"][..],
        ),
        ("empty", b"", &["not a netml model"]),
        ("cut", &good[..good.len() / 2], &["damaged", "cut"]),
        ("flipped", &flipped, &["damaged", "checksum"]),
        ("newer", &newer, &["format version 9", "update netml-agent"]),
        (
            "schema",
            &foreign_schema,
            &["another feature schema", "retrain"],
        ),
    ] {
        let file = write(folder.path(), name, bytes);
        expect(&["model", "verify", text(&file)], 1, parts);
        expect(&["model", "verify", text(&file)], 1, &[name]);
        let output = run(&["model", "verify", "--json", text(&file)]);
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let last = checks.as_array().unwrap().last().unwrap();
        assert_eq!(last["passed"], false, "{name}");
    }
    expect(&["model", "verify", text(&missing)], 1, &["missing.model"]);
    expect(&["model", "inspect", text(&missing)], 1, &["missing.model"]);
    expect(
        &["model", "verify", text(folder.path())],
        1,
        &["cannot read"],
    );
    expect(&["model"], 2, &["subcommand"]);
    expect(&["model", "diff"], 2, &["<FILE>"]);
}

#[test]
fn a_difference_is_named_with_the_verdicts_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let same = write(folder.path(), "same.model", embedded_bytes());
    assert!(out(&["model", "diff", text(&same)]).starts_with("both are model"));
    let other = changed(|parts| {
        parts.suspicious = f32::MIN_POSITIVE;
        parts.unsure = f32::MIN_POSITIVE;
        parts.card = "{\"name\": \"a\\u001b[2Jb\"}".into();
    });
    let other = write(folder.path(), "other.model", &other);
    let told = out(&["model", "diff", text(&same), text(&other)]);
    assert!(told.contains("suspicious: 0."), "{told}");
    assert!(told.contains("NORMAL     -> SUSPICIOUS"), "{told}");
    assert!(!told.contains('\u{1b}'), "a card cannot move the cursor");
    let told = json(&["model", "diff", "--json", text(&same), text(&other)]);
    assert_eq!(told["same"], false);
    assert_eq!(told["importances"], serde_json::json!([]));
    assert!(told["verdicts"]["changed"].as_u64() > Some(0));
    let inspected = out(&["model", "inspect", text(&other)]);
    assert!(!inspected.contains('\u{1b}'), "{inspected}");
}
