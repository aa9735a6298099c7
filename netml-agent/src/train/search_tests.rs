use super::*;
use crate::train::testing::{Made, telling};

fn table() -> Table {
    let mut made = Made::default();
    let mut random = Random::new(9, 9);
    let told = telling();
    for group in 0..8 {
        for flow in 0..60 {
            let attack = flow % 2 == 0;
            let mut features = std::array::from_fn(|_| random.unit() as f32);
            features[told] = if attack { 0.45 } else { 0.0 } + random.unit() as f32 / 2.0;
            let row = made.row(
                &format!("{group}.pcap"),
                &format!("g{group}"),
                if attack { "port_scan" } else { "web" },
                attack,
            );
            (row.flow, row.features) = (flow, features);
            row.time_ms = u64::from(flow) * 1_000;
        }
    }
    made.table
}

#[test]
fn the_grid_holds_the_present_settings_once_and_each_value_alone() {
    let base = Settings::default();
    let all = candidates(&base, 7);
    assert_eq!(all.len(), 20);
    assert_eq!(all[0].name, "present");
    let present = Settings {
        trees: 20,
        ..base.clone()
    };
    assert_eq!(all[0].settings, present);
    for (at, one) in all.iter().enumerate() {
        assert!(
            all[..at].iter().all(|other| other.settings != one.settings),
            "{}",
            one.name
        );
    }
    assert!(all[1..13].iter().all(|one| !one.name.contains(',')));
    assert_eq!(candidates(&base, 7), all);
}

#[test]
fn groups_that_judge_take_no_part_in_the_choice() {
    let table = table();
    let outer = Folds::new(&table, 4, 1).expect("eight groups");
    for fold in 0..4 {
        let kept = without(&table, &outer, fold);
        assert!(!kept.rows.is_empty() && kept.rows.len() < table.rows.len());
        assert!(
            kept.rows
                .iter()
                .all(|row| outer.of_group[row.group as usize] != fold)
        );
    }
    // Labels of an outer group that are turned round change no inner score and no choice.
    let mut settings = TrainSettings::default();
    settings.budget.alarms_per_host_day = 1e9;
    let plan = Plan {
        outer: 2,
        inner: 2,
        drawn: 0,
        seeds: 1,
    };
    let folds = Folds::new(&table, 2, settings.forest.seed).expect("eight groups");
    let mut turned = table.clone();
    for row in &mut turned.rows {
        if folds.of_group[row.group as usize] == 0 {
            row.attack = !row.attack;
        }
    }
    let few = |table: &Table| {
        let kept = without(table, &folds, 0);
        let groups = table.judged_groups().into_iter();
        let groups = groups.filter(|group| folds.of_group[*group as usize] != 0);
        let inner = Folds::among(&kept, groups.collect(), plan.inner, 1).expect("four groups");
        let candidate = &candidates(&settings.forest, 0)[1];
        let judged = judge(&kept, &settings, candidate, 1, &inner).expect("judges");
        score(&kept, &of_judged(&kept, &judged), 0.1)
    };
    assert_eq!(few(&table), few(&turned));
    assert!(few(&table).pr_auc > 0.5);
}

#[test]
fn a_difference_is_told_with_its_error() {
    let of = |values: &[f64]| -> Vec<Score> {
        let score = |pr_auc: &f64| Score {
            pr_auc: *pr_auc,
            ..Score::default()
        };
        values.iter().map(score).collect()
    };
    let [mean, error] = difference(&of(&[0.5, 0.7]), &of(&[0.4, 0.4]));
    assert!(
        (mean - 0.2).abs() < 1e-12 && (error - 0.1).abs() < 1e-12,
        "{mean} {error}"
    );
}
