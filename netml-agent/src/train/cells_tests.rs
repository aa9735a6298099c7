use super::*;
use crate::train::testing::Made;

/// Flows: (capture, group, kind, attack, quality, hit, how many).
type Item = (
    &'static str,
    &'static str,
    &'static str,
    bool,
    char,
    bool,
    usize,
);

fn counted(items: &[Item]) -> (Cells, Vec<f64>) {
    let mut made = Made::default();
    let (mut flows, mut hits) = (Vec::new(), Vec::new());
    for &(capture, group, kind, attack, quality, hit, count) in items {
        for _ in 0..count {
            let at = made.table.rows.len();
            let row = made.row(capture, group, kind, attack);
            (row.quality, row.flow) = (quality, at as u32);
            flows.push(FlowScore {
                rows: at..at + 1,
                score: 0.0,
                class: 0,
                rule: None,
                weight: 1.0,
            });
            hits.push(hit);
        }
    }
    let cells = Cells::new(&made.table, &flows);
    let hits = cells.hits(&hits);
    (cells, hits)
}

fn of(items: &[Item], of: impl Fn(&Draw<'_>) -> Option<f64>) -> Figure {
    let (cells, hits) = counted(items);
    cells.figure(&[hits], of)
}

fn near(got: Option<f64>, want: f64) {
    assert!(
        got.is_some_and(|got| (got - want).abs() < 1e-9),
        "{got:?} {want}"
    );
}

#[test]
fn rates_are_means_over_groups_and_small_groups_are_pooled() {
    let items = [
        ("a", "g", "web", false, 'A', true, 10),
        ("b", "g", "web", false, 'A', false, 190),
        ("c", "h", "iot", false, 'B', true, 30),
        ("c", "h", "iot", false, 'B', false, 270),
        ("d", "i", "web", false, 'A', true, 1),
        ("e", "j", "web", false, 'A', false, 3),
        ("f", "k", "web", false, 'C', true, 500),
    ];
    near(of(&items, |draw| draw.large_groups()).mean, 0.075);
    near(of(&items, |draw| draw.worst_group()).mean, 0.1);
    near(of(&items, |draw| draw.small_groups()).mean, 0.25);
    let per_flow = of(&items, |draw| draw.share(|cell| !cell.attack));
    near(per_flow.mean, 41.0 / 504.0);
}

#[test]
fn recalls_are_means_over_group_and_kind_without_quality_c() {
    let items = [
        ("a", "g", "port_scan", true, 'A', true, 10),
        ("b", "h", "port_scan", true, 'A', false, 100),
        ("c", "h", "syn_flood", true, 'A', true, 100),
        ("d", "h", "brute_force", true, 'A', true, 1),
        ("d", "h", "c2_botnet", true, 'A', false, 1),
        ("e", "i", "c2_botnet", true, 'C', true, 50),
        ("f", "i", "dns_tunnel", true, 'B', true, 50),
    ];
    near(of(&items, |draw| draw.scans_and_floods()).mean, 2.0 / 3.0);
    near(
        of(&items, |draw| draw.shared_kinds()).mean,
        (0.5 + 1.0 + 1.0 + 0.0 + 1.0) / 5.0,
    );
    near(
        of(&items, |draw| draw.recall_mean(|_| true)).mean,
        4.0 / 6.0,
    );
    near(
        of(&items, |draw| draw.recall("i", "c2_botnet", true)).mean,
        1.0,
    );
    near(
        of(&items, |draw| draw.recall("h", "port_scan", false)).mean,
        0.0,
    );
}

#[test]
fn intervals_come_from_captures_and_one_capture_has_none() {
    let mut items: Vec<Item> = Vec::new();
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for (at, name) in NAMES.into_iter().enumerate() {
        items.push((name, "g", "web", false, 'A', at < 2, 50));
    }
    let figure = of(&items, |draw| draw.large_groups());
    near(figure.mean, 0.25);
    let [low, high] = figure.interval.expect("eight captures");
    assert!(low < 0.13 && (0.4..0.8).contains(&high), "{low} {high}");
    assert_eq!(
        of(&items, |draw| draw.large_groups()),
        figure,
        "the same draws"
    );
    let mut one: Vec<Item> = NAMES[1..]
        .iter()
        .map(|name| (*name, "h", "port_scan", true, 'A', true, 1))
        .collect();
    one.push(("a", "g", "web", false, 'A', true, 300));
    near(of(&one, |draw| draw.large_groups()).mean, 1.0);
    assert_eq!(of(&one, |draw| draw.large_groups()).interval, None);
}

#[test]
fn figures_tell_mean_and_range_of_the_seeds() {
    let figure = Figure::of_seeds([Some(0.1), None, Some(0.3)]);
    near(figure.mean, 0.2);
    assert_eq!(figure.range, Some([0.1, 0.3]));
    assert_eq!(Figure::of_seeds([None]), Figure::default());
}
