//! Columns that say nothing, and columns that say too much: what is constant, and what alone names the
//! group a row is from.
//!
//! Both look at the rows that are fitted. A column is cut into at most [`BINS`] parts of equal weight,
//! groups weighing alike: the leaves of a tree that asks this column only. `accuracy` is the share of
//! rows whose group is the most frequent of their part; `information` is what the part tells of the
//! group, as a share of what there is to tell. Groups are told apart within one label, and within one
//! kind of attack where several groups hold it: between kinds they differ because the kinds do.

use std::collections::BTreeMap;

use serde::Serialize;

use super::captures::parallel;
use super::table::{NameId, Table};
use crate::flow::schema::FEATURE_SPECS;

/// Most parts a column is cut into.
pub const BINS: usize = 16;

/// Fitted rows from which a group is told apart from others.
pub const GROUP_ROWS_MIN: usize = 100;

/// Share of rows with one value from which a column is told as nearly constant.
pub const NEARLY: f64 = 0.999;

/// A column leaks whose accuracy is so far on the way from chance to certainty.
pub const LEAK_ACCURACY: f64 = 0.5;

/// A column leaks too that tells one group from all others with this balanced accuracy.
pub const LEAK_ONE_GROUP: f64 = 0.95;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Columns {
    /// Rows looked at.
    pub rows: usize,
    /// Columns with one value, or hardly another.
    pub constant: Vec<Constant>,
    /// Rows among which groups are told apart.
    pub scopes: Vec<Scope>,
    /// Every column in every scope, those that tell most first.
    pub telling: Vec<Telling>,
}

/// A column with hardly more than one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Constant {
    /// Its name.
    pub column: &'static str,
    /// The value.
    pub value: f32,
    /// Share of rows that have it; 1 where the column is constant.
    pub share: f64,
}

/// Rows of one label, or of one kind of attack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scope {
    /// "benign", "attack" or "kind NAME".
    pub name: String,
    /// Groups with rows enough.
    pub groups: Vec<String>,
    /// Rows of these.
    pub rows: usize,
}

/// How far one column names the group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Telling {
    /// Scope.
    pub scope: String,
    /// Column.
    pub column: &'static str,
    /// Share of rows whose group the column names, groups weighing alike.
    pub accuracy: f64,
    /// The same by chance.
    pub chance: f64,
    /// Information on the group, 0 to 1.
    pub information: f64,
    /// The group it tells best from all others.
    pub best_group: String,
    /// Balanced accuracy of that, 0.5 to 1.
    pub best_group_accuracy: f64,
    /// It leaks by [`LEAK_ACCURACY`] or [`LEAK_ONE_GROUP`].
    pub leaks: bool,
}

/// Looks at all columns of a table.
#[must_use]
pub fn look(table: &Table) -> Columns {
    let fitted: Vec<usize> = (0..table.rows.len())
        .filter(|&row| table.rows[row].fit)
        .collect();
    let scopes = scopes(table, &fitted);
    let columns = FEATURE_SPECS.len();
    let constants = parallel(columns, |column| constant(table, &fitted, column));
    let mut telling: Vec<Telling> = parallel(columns * scopes.len(), |job| {
        let (scope, rows) = &scopes[job / columns];
        tell(table, scope, rows, job % columns)
    });
    telling.sort_by(|a, b| {
        let scope = |of: &Telling| scopes.iter().position(|(scope, _)| scope.name == of.scope);
        let order = scope(a).cmp(&scope(b));
        order.then(b.information.total_cmp(&a.information))
    });
    Columns {
        rows: fitted.len(),
        constant: constants.into_iter().flatten().collect(),
        scopes: scopes.into_iter().map(|(scope, _)| scope).collect(),
        telling,
    }
}

fn constant(table: &Table, rows: &[usize], column: usize) -> Option<Constant> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for &row in rows {
        let bits = table.rows[row].features[column].to_bits();
        *counts.entry(bits).or_default() += 1;
    }
    let (bits, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let share = count as f64 / rows.len() as f64;
    (share >= NEARLY).then_some(Constant {
        column: FEATURE_SPECS[column].name,
        value: f32::from_bits(bits),
        share,
    })
}

/// Rows of each scope with two groups or more that have rows enough.
fn scopes(table: &Table, fitted: &[usize]) -> Vec<(Scope, Vec<usize>)> {
    let mut all = Vec::new();
    let mut of = |name: String, wanted: &dyn Fn(usize) -> bool| {
        let mut by_group: BTreeMap<NameId, Vec<usize>> = BTreeMap::new();
        for &row in fitted.iter().filter(|&&row| wanted(row)) {
            by_group.entry(table.rows[row].group).or_default().push(row);
        }
        by_group.retain(|_, rows| rows.len() >= GROUP_ROWS_MIN);
        if by_group.len() >= 2 {
            let groups = by_group
                .keys()
                .map(|&group| table.groups.name(group).to_string());
            let groups = groups.collect();
            let rows: Vec<usize> = by_group.into_values().flatten().collect();
            let scope = Scope {
                name,
                groups,
                rows: rows.len(),
            };
            all.push((scope, rows));
        }
    };
    of("benign".into(), &|row| !table.rows[row].attack);
    of("attack".into(), &|row| table.rows[row].attack);
    for (kind, name) in (0..).zip(table.kinds.all()) {
        of(format!("kind {name}"), &|row| {
            table.rows[row].attack && table.rows[row].kind == kind
        });
    }
    all
}

fn tell(table: &Table, scope: &Scope, rows: &[usize], column: usize) -> Telling {
    let groups = scope.groups.len();
    let mut numbers: BTreeMap<NameId, usize> = BTreeMap::new();
    let mut sizes = vec![0.0; groups];
    let mut values: Vec<(f32, usize)> = Vec::with_capacity(rows.len());
    for &row in rows {
        let row = &table.rows[row];
        // Rows of a scope stand in the order of its groups.
        let next = numbers.len();
        let group = *numbers.entry(row.group).or_insert(next);
        sizes[group] += 1.0;
        values.push((row.features[column], group));
    }
    values.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let weight = |group: usize| 1.0 / (sizes[group] * groups as f64);
    let mut bins: Vec<Vec<f64>> = Vec::new();
    let mut bin = vec![0.0; groups];
    for (at, &(value, group)) in values.iter().enumerate() {
        bin[group] += weight(group);
        let is_last_of_value = values.get(at + 1).is_none_or(|next| next.0 > value);
        let is_full = bin.iter().sum::<f64>() >= 1.0 / BINS as f64 - 1e-9;
        if at + 1 == values.len() || (is_last_of_value && is_full) {
            bins.push(std::mem::replace(&mut bin, vec![0.0; groups]));
        }
    }
    measures(scope, FEATURE_SPECS[column].name, &bins)
}

/// Of the weight of each group in each part; each group weighs the same, all together 1.
fn measures(scope: &Scope, column: &'static str, bins: &[Vec<f64>]) -> Telling {
    let groups = scope.groups.len();
    let share = 1.0 / groups as f64;
    let largest = |bin: &Vec<f64>| bin.iter().copied().fold(0.0, f64::max);
    let accuracy: f64 = bins.iter().map(largest).sum();
    let mut information = 0.0;
    for bin in bins {
        let whole: f64 = bin.iter().sum();
        for &part in bin.iter().filter(|part| **part > 0.0) {
            information += part * (part / (whole * share)).ln();
        }
    }
    let of_group = |group: usize| -> f64 {
        let better = bins.iter().map(|bin| {
            let own = bin[group] / share;
            let rest = (bin.iter().sum::<f64>() - bin[group]) / (1.0 - share);
            own.max(rest)
        });
        better.sum::<f64>() / 2.0
    };
    let (best, best_accuracy) =
        (0..groups)
            .map(|group| (group, of_group(group)))
            .fold(
                (0, 0.0),
                |best, next| if next.1 > best.1 { next } else { best },
            );
    Telling {
        scope: scope.name.clone(),
        column,
        accuracy,
        chance: share,
        information: (information / (groups as f64).ln()).clamp(0.0, 1.0),
        best_group: scope.groups[best].clone(),
        best_group_accuracy: best_accuracy,
        leaks: accuracy >= share + LEAK_ACCURACY * (1.0 - share) || best_accuracy >= LEAK_ONE_GROUP,
    }
}

#[cfg(test)]
#[path = "columns_tests.rs"]
mod tests;
