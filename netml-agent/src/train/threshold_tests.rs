use super::*;
use crate::train::testing::Made;

/// One row a flow: (group, capture, host, minute, attack, score).
fn scored(items: &[(u32, u32, u32, u64, bool, f32)]) -> (Table, Vec<RowScore>, Vec<FlowScore>) {
    let mut made = Made::default();
    let mut rows = Vec::new();
    let mut flows = Vec::new();
    for (at, &(group, capture, host, minute, attack, score)) in items.iter().enumerate() {
        let row = made.row("a", "g", "k", attack);
        (row.capture, row.group, row.kind) = (capture, group, u32::from(attack));
        (row.flow, row.host) = (at as u32, host);
        row.time_ms = minute * MINUTE_MS;
        rows.push(RowScore { score, class: 1 });
        flows.push(FlowScore {
            rows: at..at + 1,
            score,
            class: 1,
            rule: None,
            weight: 1.0,
        });
    }
    (made.table, rows, flows)
}

#[test]
fn groups_weigh_alike_and_so_do_the_captures_of_a_group() {
    let flow = |group, capture| (group, capture, 0, 0, false, 0.1);
    let mut items: Vec<_> = (0..100).map(|_| flow(0, 0)).collect();
    items.extend((0..300).map(|at| flow(1, 1 + u32::from(at == 0))));
    items.push((1, 1, 0, 0, true, 0.9));
    let (table, _, flows) = scored(&items);
    let weights = benign_weights(&table, &flows);
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!((weights[0] - 1.0 / 200.0).abs() < 1e-12);
    assert!((weights[100] - 0.25).abs() < 1e-12, "a capture of one flow");
    assert!((weights[101] - 0.25 / 299.0).abs() < 1e-12);
    assert!(weights[400].abs() < 1e-12, "an attack");
}

#[test]
fn the_threshold_is_the_lowest_within_the_budget() {
    let scores: Vec<(f32, f64)> = (0..100).map(|i| (i as f32 / 100.0, 0.01)).collect();
    let threshold = lowest_within(&scores, 0.0501);
    assert!((threshold - 0.95).abs() < 1e-6, "{threshold}");
    assert!((at_or_above(&scores, threshold) - 0.05).abs() < 1e-9);
    let ties = [(0.9, 0.5), (0.9, 0.5)];
    assert!(
        (lowest_within(&ties, 0.6) - 1.0).abs() < 1e-9,
        "equal scores stay together"
    );
}

#[test]
fn an_episode_ends_with_silence_and_a_host_day_counts_active_minutes() {
    let at = |minute, score| (0, 0, 0, minute, false, score);
    let items = [at(0, 0.9), at(2, 0.9), at(3, 0.1), at(9, 0.9)];
    let (table, rows, _) = scored(&items);
    let alarms = Alarms::new(&table, &rows, |_| true);
    assert_eq!(alarms.episodes(0.5), 2);
    assert_eq!(alarms.episodes(0.95), 0);
    assert!((alarms.host_days - 4.0 / 1_440.0).abs() < 1e-12);
    assert!((alarms.per_host_day(0.5) - 720.0).abs() < 1e-6);
}

#[test]
fn calibration_rises_with_the_score_and_keeps_the_reference_share() {
    let mut items = Vec::new();
    for at in 0..1000_u32 {
        let score = at as f32 / 1000.0;
        items.push((at % 2, 0, 0, 0, false, score * 0.6));
        items.push((at % 2, 0, 0, 0, true, 0.4 + score * 0.6));
    }
    let (table, rows, flows) = scored(&items);
    let cut = choose(&table, &rows, &flows, &Budget::default());
    assert!(
        cut.calibration
            .is_sorted_by(|a, b| a.score < b.score && a.value <= b.value)
    );
    let (first, last) = (
        cut.calibration[0],
        cut.calibration[cut.calibration.len() - 1],
    );
    assert!(first.value < 0.01 && last.value > 0.9, "{first:?} {last:?}");
    assert!(
        cut.false_alarms
            .is_sorted_by(|a, b| a.score < b.score && a.value >= b.value)
    );
    assert!(cut.unsure <= cut.suspicious);
}
