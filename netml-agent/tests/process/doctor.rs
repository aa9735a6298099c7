use std::net::TcpListener;

use serde_json::Value;

use super::{run, stderr};

/// Runs the doctor over the loopback and gives its report, its exit code checked against it.
fn report(arguments: &[&str]) -> Value {
    let output = run(&[&["doctor", "--json", "--interface", "lo"], arguments].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fails = report["state"] == "will-not-work";
    assert_eq!(output.status.code(), Some(i32::from(fails)), "{report:#}");
    assert_eq!(stderr(&output).contains("will not work"), fails);
    report
}

/// The one check of that name.
fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    let all = report["checks"].as_array().unwrap();
    let mut of = all.iter().filter(|check| check["id"] == id);
    let found = of.next().ok_or(id).unwrap();
    assert!(of.next().is_none(), "{id} twice: {report:#}");
    found
}

#[test]
fn the_report_has_every_check_with_state_and_reason_and_the_worst_on_top() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let data = folder.path().to_str().unwrap();
    let report = report(&["--collector", &collector, "--data", data]);
    let mut worst = "ok";
    for check in report["checks"].as_array().unwrap() {
        assert!(!check["why"].as_str().unwrap().is_empty());
        match check["state"].as_str().unwrap() {
            "ok" => assert_eq!(check.get("mend"), None, "{check}"),
            "degraded" => worst = if worst == "ok" { "degraded" } else { worst },
            "will-not-work" => worst = "will-not-work",
            other => panic!("{other}"),
        }
    }
    assert_eq!(report["state"], worst);
    assert_eq!(check(&report, "collector")["state"], "ok");
    assert_eq!(check(&report, "disk")["subject"], data);
    assert_eq!(check(&report, "link")["subject"], "lo");
    for id in [
        "kernel",
        "ring-buffer",
        "xdp-link",
        "capabilities",
        "clock",
        "leftovers",
    ] {
        check(&report, id);
    }
    assert_eq!(report.get("removed"), None);
}

#[test]
fn what_is_not_reached_or_not_writable_is_told_with_the_way_out() {
    // A port that was free a moment ago: nothing listens there.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let report = report(&["--collector", &collector, "--data", "/proc"]);
    let of = check(&report, "collector");
    assert_eq!(
        (&of["state"], &of["subject"]),
        (&"degraded".into(), &collector.into())
    );
    assert!(of["mend"].as_str().unwrap().contains("netml-collector"));
    assert_eq!(check(&report, "disk")["state"], "will-not-work");
    assert_eq!(report["state"], "will-not-work");
}

#[test]
fn the_table_ends_with_all_in_all() {
    let output = run(&["doctor", "--interface", "lo"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("all in all: "), "{text}");
    assert!(
        text.lines().any(|line| line.contains("native-xdp lo")),
        "{text}"
    );
}
