use std::path::Path;

use super::fixture::{conversation, conversation_file, pcap, write};
use super::{run, stderr};

/// Runs, and expects an exit code and a one-line error that holds all parts.
pub(crate) fn expect(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = run(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    let errors: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{arguments:?}: {text}");
    for part in parts {
        assert!(
            errors[0].contains(part),
            "{arguments:?}: no {part:?} in {text}"
        );
    }
    assert!(!text.contains("panicked"), "{text}");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Of the form of a token.
const TOKEN: &str = "netml1:edge-1:0000000000000000000000000000000000000000000000000000000000000000:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn misuse_is_told_with_the_way_out_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let file = text(&file);
    let collector = "http://127.0.0.1:1";
    for (arguments, parts) in [
        (&["replay", file, "--no-such"][..], &["--no-such"][..]),
        (&["replay"], &["<FILE>"]),
        (&["no-such"], &["no-such"]),
        (&["replay", "-", "-"], &["`-` can be read once"]),
        (&["replay", file, "--speed", "2x"], &["2x"]),
        (
            &["replay", file, "--collector", "ftp://x:1"],
            &["--collector takes a URL like http://127.0.0.1:8081"],
        ),
        (
            &["run", "--collector", collector, "--collector", collector],
            &["the collector http://127.0.0.1:1 is named twice"],
        ),
        (
            &[
                "run",
                "--collector",
                "https://a:1",
                "--collector",
                "https://b:1",
                "--collector",
                "https://c:1",
                "--identity",
                "a.pem",
                "--identity",
                "b.pem",
            ],
            &["2 identity files for 3 collectors", "one for each"],
        ),
        (
            &["replay", file, "--collector", "https://x:1"],
            &["https://x:1 needs an identity file", "netml-agent enroll"],
        ),
        (
            &[
                "enroll",
                "--collector",
                collector,
                "--token",
                "x",
                "--identity",
                "y",
            ],
            &["--token takes what `netml-collector enroll token` printed"],
        ),
        (
            &[
                "enroll",
                "--collector",
                collector,
                "--token",
                TOKEN,
                "--identity",
                file,
            ],
            &["is there already; --replace"],
        ),
        (
            &[
                "replay",
                file,
                "--collector",
                collector,
                "--output",
                "ndjson",
            ],
            &["cannot be used with"],
        ),
        (
            &["replay", file, "--collector", collector, "--sensor", "a b"],
            &["--sensor takes 1 to 64 of letters"],
        ),
        (
            &["replay", file, "--no-model", "--model", "x"],
            &["cannot be used with"],
        ),
        (
            &["run", "--interface", "no-such0", "--no-model"],
            &["no interface \"no-such0\"", "there are: ", "lo"],
        ),
        (
            &[
                "run",
                "--interface",
                "lo",
                "--no-model",
                "--ring-bytes",
                "1000",
            ],
            &["ring of 1000 bytes", "power of two"],
        ),
        (
            &[
                "run",
                "--interface",
                "lo",
                "--no-model",
                "--collector",
                "nonsense",
            ],
            &["--collector takes a URL", "nonsense"],
        ),
        (
            &["doctor", "--collector", "nonsense"],
            &["--collector takes a URL", "nonsense"],
        ),
        (
            &["doctor", "--interface", "no-such0"],
            &["no interface \"no-such0\"", "lo"],
        ),
        (
            &["traceroute", "-f"],
            &["no host name or address", "8.8.8.8"],
        ),
        (&["probe", "a b"], &["no host name or address"]),
        (&["probe", "127.0.0.1", "--count", "0"], &["0", "1..=50"]),
    ] {
        expect(arguments, 2, parts);
    }
}

#[test]
fn a_capture_that_cannot_be_read_is_told_with_its_name_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| write(folder.path(), name, bytes);
    let empty = at("empty.pcap", b"");
    let foreign = at("foreign.pcap", b"not a capture at all");
    let radio = at("radio.pcap", &pcap(127, &conversation()));
    let mut damaged = pcap(1, &conversation());
    damaged.extend([0xff; 64]);
    let damaged = at("damaged.pcap", &damaged);
    let missing = folder.path().join("missing.pcap");
    for (file, part) in [
        (&empty, "ends inside its file header"),
        (&foreign, "is no capture file"),
        (&radio, "link type 127 (802.11 with radiotap header)"),
        (&damaged, "is damaged at byte"),
        (&missing, "cannot open capture"),
    ] {
        let name = file.file_name().unwrap().to_str().unwrap();
        expect(&["replay", "--no-model", text(file)], 1, &[part, name]);
    }
}

#[test]
fn a_model_that_cannot_be_used_is_an_error_and_never_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let foreign = write(folder.path(), "foreign.model", b"no model");
    let missing = folder.path().join("missing.model");
    for (model, parts) in [
        (&foreign, &["foreign.model", "not a netml model"][..]),
        (&missing, &["missing.model", "cannot read the model"]),
    ] {
        let arguments = ["replay", "--model", text(model), text(&file)];
        expect(&arguments, 1, parts);
        assert!(run(&arguments).stdout.is_empty());
    }
}
