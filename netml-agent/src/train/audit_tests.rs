use super::*;
use crate::train::random::Random;

/// Flows of one row: (capture, kind, attack, value), the features being spread around the value.
fn table(flows: &[(&str, &str, bool, f32)]) -> Table {
    let mut table = Table::default();
    let mut random = Random::new(7, 7);
    for (flow, &(capture, kind, attack, value)) in flows.iter().enumerate() {
        let row = Row {
            capture: table.captures.id(capture),
            group: table.groups.id(capture),
            kind: table.kinds.id(kind),
            quality: 'A',
            attack,
            flow: flow as u32,
            stands_for: 1.0,
            packets: 3,
            time_ms: flow as u64,
            host: 0,
            fit: true,
            rule: None,
            features: std::array::from_fn(|_| value + random.unit() as f32),
        };
        table.rows.push(row);
    }
    table
}

/// Attack around 0 and benign around 100, in two captures each.
fn separate() -> Vec<(&'static str, &'static str, bool, f32)> {
    let mut flows = Vec::new();
    for _ in 0..30 {
        for capture in ["scan-a", "scan-b"] {
            flows.push((capture, "port_scan", true, 0.0));
        }
        for capture in ["web-a", "web-b"] {
            flows.push((capture, "web", false, 100.0));
        }
    }
    flows
}

#[test]
fn a_flow_among_flows_of_the_other_label_is_listed_with_what_they_are() {
    let mut flows = separate();
    assert_eq!(audit(&table(&flows)).contradicted, 0);
    // Labelled as an attack, and lies where the benign flows lie.
    flows.push(("scan-a", "port_scan", true, 100.0));
    let told = audit(&table(&flows));
    assert_eq!((told.judged, told.contradicted), (121, 1));
    let doubt = &told.listed[0];
    assert_eq!((doubt.capture.as_str(), doubt.flow), ("scan-a", 120));
    assert_eq!(doubt.neighbours, BTreeMap::from([("web".to_string(), 10)]));
    assert!(doubt.nearest.starts_with("web-"), "{doubt:?}");
    assert_eq!((doubt.against, doubt.equal_flows), (10, 1));
    let cell = told.cells.iter().find(|cell| cell.contradicted > 0);
    let cell = cell.expect("a cell");
    assert_eq!((cell.group.as_str(), cell.judged), ("scan-a", 31));
}

#[test]
fn flows_of_the_own_capture_have_no_vote() {
    // A whole capture with the wrong label: its own flows would all agree with it.
    let mut flows = separate();
    flows.extend([("wrong", "port_scan", true, 100.0); 20]);
    let told = audit(&table(&flows));
    let wrong = told.listed.iter().filter(|doubt| doubt.capture == "wrong");
    assert_eq!(wrong.count(), 20);
}

#[test]
fn equal_rows_of_a_capture_are_one_flow() {
    let mut table = table(&separate());
    let mut row = table.rows[0].clone();
    for flow in 500..510 {
        row.flow = flow;
        table.rows.push(row.clone());
    }
    let told = audit(&table);
    assert_eq!((told.flows, told.distinct), (130, 120));
}

#[test]
fn a_table_of_one_capture_has_nobody_to_ask() {
    let told = audit(&table(&[("a", "web", false, 0.0); 30]));
    assert_eq!((told.judged, told.alone, told.listed.len()), (0, 30, 0));
    assert_eq!(audit(&Table::default()).flows, 0);
}

#[test]
fn a_sample_is_bounded_and_gives_small_captures_all_they_have() {
    let mut flows = vec![("large", "web", false, 0.0); 500];
    flows.extend([("small", "web", false, 0.0); 20]);
    let table = table(&flows);
    let candidates = distinct(&table, &table.flows());
    let taken = sample(&candidates, (0..520).collect(), 100);
    let small = taken.iter().filter(|&&at| at >= 500).count();
    assert_eq!((taken.len(), small), (100, 20));
    assert!(taken[50] > 60, "not just the first ones");
    assert_eq!(sample(&candidates, (0..520).collect(), 1_000).len(), 520);
}

#[test]
fn the_distance_is_the_sum_of_squares() {
    let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
    let b: Vec<f32> = (0..19).map(|i| i as f32 * 2.0).collect();
    let plain: f32 = (0..19).map(|i| (i * i) as f32).sum();
    assert!((squared_distance(&a, &b) - plain).abs() < 1e-3);
}
