//! The greatest talkers of a minute in bounded space. Pure.
//!
//! Every key is kept while there is room. When there is none, the smallest are folded into
//! `other`, so the sum over all keys and `other` is always what was added.

use std::collections::{HashMap, HashSet};

use super::{Order, Talkers, Volume};

/// Most keys of a minute and dimension while it is open; beyond it the smaller half is folded
/// into `other`.
pub const OPEN_KEYS_MAX: usize = 1_024;

/// Keys by bytes, and half as many each by packets and by flows, that stay of a closed minute.
pub const CLOSED_KEYS: usize = 64;

/// Talkers of one minute and dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    keys: HashMap<String, Volume>,
    other: Volume,
}

/// Rows that changed: to be set to these values, and to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Key and its new volume; the key `""` is `other`.
    pub set: Vec<(String, Volume)>,
    /// Keys folded into `other`.
    pub removed: Vec<String>,
}

impl Minute {
    /// A minute as stored; the key `""` is `other`.
    #[must_use]
    pub fn from_rows(rows: impl IntoIterator<Item = (String, Volume)>) -> Self {
        let mut minute = Self::default();
        for (key, volume) in rows {
            if key.is_empty() {
                minute.other.add(volume);
            } else {
                minute.keys.entry(key).or_default().add(volume);
            }
        }
        minute
    }

    /// Adds volumes; what they change is the answer.
    pub fn add(&mut self, volumes: &HashMap<String, Volume>) -> Changes {
        for (key, volume) in volumes {
            self.keys.entry(key.clone()).or_default().add(*volume);
        }
        let removed = if self.keys.len() > OPEN_KEYS_MAX {
            self.fold(OPEN_KEYS_MAX / 4)
        } else {
            Vec::new()
        };
        let set = volumes
            .keys()
            .filter_map(|key| Some((key.clone(), *self.keys.get(key)?)));
        Changes {
            set: set.chain(self.other_row(&removed)).collect(),
            removed,
        }
    }

    /// Folds all but the greatest into `other`, for a minute that has passed.
    pub fn close(&mut self) -> Changes {
        let removed = self.fold(CLOSED_KEYS);
        Changes {
            set: self.other_row(&removed).into_iter().collect(),
            removed,
        }
    }

    fn other_row(&self, removed: &[String]) -> Option<(String, Volume)> {
        (!removed.is_empty()).then(|| (String::new(), self.other))
    }

    /// Keeps `by_bytes` keys by bytes and half as many each by packets and by flows.
    fn fold(&mut self, by_bytes: usize) -> Vec<String> {
        let mut kept = HashSet::new();
        for (order, count) in [
            (Order::Bytes, by_bytes),
            (Order::Packets, by_bytes / 2),
            (Order::Flows, by_bytes / 2),
        ] {
            let mut keys: Vec<(&String, &Volume)> = self.keys.iter().collect();
            keys.sort_unstable_by(|a, b| rank(order, a).cmp(&rank(order, b)));
            kept.extend(keys.into_iter().take(count).map(|(key, _)| key.clone()));
        }
        let mut removed = Vec::new();
        self.keys.retain(|key, volume| {
            let keep = kept.contains(key);
            if !keep {
                self.other.add(*volume);
                removed.push(key.clone());
            }
            keep
        });
        removed
    }
}

/// The greatest `limit` of `sums`, the rest and `other` in one.
#[must_use]
pub fn top(
    sums: HashMap<String, Volume>,
    mut other: Volume,
    order: Order,
    limit: usize,
) -> Talkers {
    let mut all: Vec<(String, Volume)> = sums.into_iter().collect();
    all.sort_unstable_by(|a, b| rank(order, &(&a.0, &a.1)).cmp(&rank(order, &(&b.0, &b.1))));
    for (_, volume) in all.iter().skip(limit) {
        other.add(*volume);
    }
    all.truncate(limit);
    Talkers { top: all, other }
}

/// Sorts the greatest first, equal ones by key.
fn rank<'a>(
    order: Order,
    (key, volume): &(&'a String, &'a Volume),
) -> (std::cmp::Reverse<u64>, &'a str) {
    let value = match order {
        Order::Bytes => volume.bytes,
        Order::Packets => volume.packets,
        Order::Flows => volume.flows,
    };
    (std::cmp::Reverse(value), key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(rows: impl IntoIterator<Item = Volume>) -> Volume {
        let mut sum = Volume::default();
        for row in rows {
            sum.add(row);
        }
        sum
    }

    fn volume(bytes: u64) -> Volume {
        Volume {
            bytes,
            packets: 1,
            flows: 1,
        }
    }

    proptest! {
        #[test]
        fn sums_balance_and_the_stored_rows_follow_whatever_is_folded(
            adds in prop::collection::vec(prop::collection::vec((0u32..3_000, 1u64..1_000), 1..800), 1..6)
        ) {
            let mut minute = Minute::default();
            let mut stored: HashMap<String, Volume> = HashMap::new();
            let mut added = Volume::default();
            let write = |stored: &mut HashMap<String, Volume>, changes: Changes| {
                for key in changes.removed {
                    stored.remove(&key);
                }
                stored.extend(changes.set);
            };
            for volumes in adds {
                let mut map = HashMap::new();
                for (key, bytes) in volumes {
                    added.add(volume(bytes));
                    map.entry(key.to_string()).or_insert_with(Volume::default).add(volume(bytes));
                }
                let changes = minute.add(&map);
                write(&mut stored, changes);
                prop_assert!(minute.keys.len() <= OPEN_KEYS_MAX);
            }
            prop_assert_eq!(sum(stored.values().copied()), added);
            write(&mut stored, minute.close());
            prop_assert!(stored.len() <= CLOSED_KEYS * 2 + 1);
            prop_assert_eq!(sum(stored.values().copied()), added);
            prop_assert_eq!(Minute::from_rows(stored), minute);
        }
    }

    #[test]
    fn the_greatest_come_first_and_the_rest_is_other() {
        let sums = [("a", 5), ("b", 9), ("c", 1)]
            .map(|(key, bytes)| (key.to_owned(), volume(bytes)))
            .into();
        let talkers = top(sums, volume(100), Order::Bytes, 2);
        let keys: Vec<&str> = talkers.top.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(keys, ["b", "a"]);
        assert_eq!(talkers.other.bytes, 101);
    }
}
