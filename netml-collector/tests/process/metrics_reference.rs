//! docs/metrics.md is made of the tables in the code.

use netml_proto::daemon::exposition::{Family, reference};

const HEAD: &str = "\
# Metrics

Made of the tables in the code ([sensor](../netml-agent/src/health/metrics.rs),
[collector](../netml-collector/src/health/metrics.rs)); a test fails where this page is stale, and
`NETML_UPDATE_SNAPSHOTS=1 cargo test --workspace --test process metrics_reference` writes it anew. How to reach them, and
`/healthz` and `/readyz`: [operating.md](operating.md).

All are of Prometheus' text format 0.0.4, in base units. Counters begin at zero with the program. Values of labels come from
closed sets, or are names of interfaces (at most 64), sensors (at most 1,000) and collectors.
";

fn page() -> String {
    let sensor = reference(netml_agent::health::metrics::FAMILIES);
    let collector = reference(netml_collector::health::metrics::FAMILIES);
    format!(
        "{HEAD}\n## Sensor\n\n{sensor}\nThe kernel's books balance: `netml_agent_frames_total` is the sum of recorded, \
         mapped, and the kernel's reasons of\n`netml_agent_lost_total` (`ring-full` to `flow-map-full`).\n\n\
         ## Collector\n\n{collector}\n`netml_collector_records_in_total` is the sum of committed, duplicate and refused.\n"
    )
}

#[test]
fn the_reference_is_that_of_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = page();
    if std::env::var_os("NETML_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == page,
        "docs/metrics.md is stale: run with NETML_UPDATE_SNAPSHOTS=1"
    );
}

fn check<S>(families: &[Family<S>], program: &str) {
    for family in families {
        let name = family.name;
        assert!(name.starts_with(&format!("netml_{program}_")), "{name}");
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
        assert!(!family.unit.is_empty(), "{name}");
        for (unit, ends) in [("seconds", "_seconds"), ("bytes", "_bytes")] {
            let stem = name.strip_suffix("_total").unwrap_or(name);
            assert_eq!(family.unit == unit, stem.ends_with(ends), "{name}");
        }
        let same = families.iter().filter(|other| other.name == name).count();
        assert_eq!(same, 1, "{name} is there twice");
    }
}

#[test]
fn names_follow_the_rules() {
    check(netml_agent::health::metrics::FAMILIES, "agent");
    check(netml_collector::health::metrics::FAMILIES, "collector");
}
