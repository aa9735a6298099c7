use super::*;
use crate::flow::FEATURES;
use crate::train::random::Random;
use crate::train::table::Row;

/// Rows of three groups, two hundred each, with features by the number of the group.
fn table(attack: bool, feature: impl Fn(usize, usize, &mut Random) -> f32) -> Table {
    let mut table = Table::default();
    let mut random = Random::new(3, 3);
    for flow in 0..600 {
        let group = flow % 3;
        let row = Row {
            capture: table.captures.id("c"),
            group: table.groups.id(["g", "h", "i"][group]),
            kind: table.kinds.id(if attack { "port_scan" } else { "web" }),
            quality: 'A',
            attack,
            flow: flow as u32,
            stands_for: 1.0,
            packets: 1,
            time_ms: 0,
            host: 0,
            fit: true,
            rule: None,
            features: std::array::from_fn(|at| feature(at, group, &mut random)),
        };
        table.rows.push(row);
    }
    table
}

fn of<'a>(columns: &'a Columns, scope: &str, at: usize) -> &'a Telling {
    let name = FEATURE_SPECS[at].name;
    let mut all = columns.telling.iter();
    all.find(|told| told.scope == scope && told.column == name)
        .expect("the column")
}

#[test]
fn a_column_that_names_the_group_leaks_and_noise_does_not() {
    let table = table(false, |at, group, random| match at {
        0 => group as f32 + 0.5 * random.unit() as f32,
        1 => f32::from(u8::from(group == 1)),
        _ => random.unit() as f32,
    });
    let columns = look(&table);
    assert_eq!(columns.scopes.len(), 1);
    assert_eq!(columns.scopes[0].groups, ["g", "h", "i"]);
    let whole = of(&columns, "benign", 0);
    assert!(
        whole.leaks && whole.accuracy > 0.9 && whole.information > 0.9,
        "{whole:?}"
    );
    let one = of(&columns, "benign", 1);
    assert!(
        one.leaks && one.best_group == "h" && one.best_group_accuracy > 0.999,
        "{one:?}"
    );
    assert!((one.accuracy - 2.0 / 3.0).abs() < 1e-9, "{one:?}");
    let noise = of(&columns, "benign", 2);
    assert!(
        !noise.leaks && noise.accuracy < 0.45 && noise.information < 0.1,
        "{noise:?}"
    );
    assert_eq!(columns.telling[0].column, whole.column);
    assert_eq!(columns.telling.len(), FEATURES);
}

#[test]
fn groups_are_told_apart_within_a_kind_too() {
    let table = table(true, |_, group, _| group as f32);
    let columns = look(&table);
    let names: Vec<_> = columns
        .scopes
        .iter()
        .map(|scope| scope.name.as_str())
        .collect();
    assert_eq!(names, ["attack", "kind port_scan"]);
}

#[test]
fn groups_with_few_rows_and_rows_that_are_not_fitted_take_no_part() {
    let mut table = table(false, |_, group, _| group as f32);
    for row in &mut table.rows {
        row.fit = row.group != 2 || row.flow < 30;
    }
    let columns = look(&table);
    assert_eq!(columns.scopes[0].groups, ["g", "h"]);
    assert_eq!(columns.rows, 410);
}

#[test]
fn constant_columns_are_named_with_their_value() {
    let table = table(false, |at, _, random| match at {
        4 => 2.5,
        5 => 0.0,
        _ => random.unit() as f32,
    });
    let columns = look(&table);
    let told: Vec<_> = columns
        .constant
        .iter()
        .map(|c| (c.column, c.value))
        .collect();
    assert_eq!(
        told,
        [(FEATURE_SPECS[4].name, 2.5), (FEATURE_SPECS[5].name, 0.0)]
    );
    assert!(columns.constant.iter().all(|c| c.share >= 1.0));
    assert_eq!(look(&Table::default()).rows, 0);
}
