use super::{run, stderr};

/// What `--help` says of the commands of every build (training is a feature); NETML_UPDATE_SNAPSHOTS=1 rewrites it.
#[test]
fn the_help_is_the_one_reviewed() {
    let mut text = String::new();
    for command in [
        "run",
        "replay",
        "capture",
        "enroll",
        "doctor",
        "traceroute",
        "probe",
        "model",
        "model inspect",
        "model verify",
        "model diff",
        "spool",
        "spool check",
        "spool dump",
        "spool repair",
    ] {
        let arguments: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let output = run(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        text += &format!("$ netml-agent {command} --help\n");
        text += &String::from_utf8(output.stdout).unwrap();
        text += "\n";
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/help.txt");
    if std::env::var_os("NETML_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        text == kept,
        "the help changed; look at it and run with NETML_UPDATE_SNAPSHOTS=1:\n{text}"
    );
}

#[test]
fn the_version_is_told() {
    let output = run(&["--version"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text,
        concat!("netml-agent ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
