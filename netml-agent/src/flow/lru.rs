//! A bounded map with stable places and least-recently-used order.
//!
//! The base of the flow table and of the host and pair windows: O(1) lookup, insertion, removal
//! and eviction; memory grows up to the bound and is reused after that.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Place of an entry; stays the same until it is removed.
pub type Place = u32;

const NONE: Place = Place::MAX;

/// In this order: the key is compared just before the head of the value is used.
#[repr(C)]
struct Slot<K, V> {
    key: K,
    live: bool,
    value: V,
}

/// Neighbours of an entry in the order of use.
#[derive(Clone, Copy)]
struct Links {
    newer: Place,
    older: Place,
}

/// A map of at most `bound` entries. The hash is seeded at random: keys come from the wire.
pub struct LruMap<K, V> {
    bound: usize,
    hasher: RandomState,
    index: HashTable<Place>,
    slots: Vec<Slot<K, V>>,
    /// Apart from the slots: every touch changes two neighbours, whose slots would each have to come
    /// from memory for it, while the links of thousands of entries stay in the first cache.
    links: Vec<Links>,
    free: Vec<Place>,
    newest: Place,
    oldest: Place,
}

impl<K: Copy + Eq + Hash, V> LruMap<K, V> {
    /// An empty map of at most `bound` entries (at least one, below 2³² − 1).
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            bound: bound.clamp(1, NONE as usize - 1),
            hasher: RandomState::default(),
            index: HashTable::new(),
            slots: Vec::new(),
            links: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// True when one more entry needs the place of another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.bound
    }

    /// Place of a key.
    #[must_use]
    pub fn find(&self, key: &K) -> Option<Place> {
        let hash = self.hasher.hash_one(key);
        self.index
            .find(hash, |&place| self.slots[place as usize].key == *key)
            .copied()
    }

    /// Place of a key: `cached` if it is still there, else by lookup.
    #[must_use]
    pub fn find_at(&self, cached: Place, key: &K) -> Option<Place> {
        match self.slots.get(cached as usize) {
            Some(slot) if slot.live && slot.key == *key => Some(cached),
            _ => self.find(key),
        }
    }

    /// The entry longest untouched.
    #[must_use]
    pub fn oldest(&self) -> Option<Place> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The entry at a place. A place is valid from `insert` to `remove`.
    #[must_use]
    pub fn at(&self, place: Place) -> &V {
        &self.slots[place as usize].value
    }

    /// The entry at a place, to change.
    pub fn at_mut(&mut self, place: Place) -> &mut V {
        &mut self.slots[place as usize].value
    }

    /// Key at a place.
    #[must_use]
    pub fn key_at(&self, place: Place) -> &K {
        &self.slots[place as usize].key
    }

    /// True when the place holds an entry.
    #[must_use]
    pub fn is_live(&self, place: Place) -> bool {
        self.slots.get(place as usize).is_some_and(|slot| slot.live)
    }

    /// Inserts a key that is not in the map; the caller has made room.
    pub fn insert(&mut self, key: K, value: V) -> Place {
        debug_assert!(!self.is_full() && self.find(&key).is_none());
        let slot = Slot {
            key,
            value,
            live: true,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                self.links.push(Links {
                    newer: NONE,
                    older: NONE,
                });
                (self.slots.len() - 1) as Place
            }
        };
        let (hasher, slots) = (&self.hasher, &self.slots);
        self.index
            .insert_unique(hasher.hash_one(key), place, |&at| {
                hasher.hash_one(slots[at as usize].key)
            });
        self.link_newest(place);
        place
    }

    /// Makes an entry the newest.
    pub fn touch(&mut self, place: Place) {
        if self.newest != place {
            self.unlink(place);
            self.link_newest(place);
        }
    }

    /// Removes the entry at a place.
    pub fn remove(&mut self, place: Place) {
        let hash = self.hasher.hash_one(self.slots[place as usize].key);
        if let Ok(entry) = self.index.find_entry(hash, |&at| at == place) {
            entry.remove();
            self.unlink(place);
            self.slots[place as usize].live = false;
            self.free.push(place);
        }
    }

    /// Places of all entries, newest first.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let mut at = self.newest;
        std::iter::from_fn(move || {
            let place = (at != NONE).then_some(at)?;
            at = self.links[place as usize].older;
            Some(place)
        })
    }

    fn link_newest(&mut self, place: Place) {
        self.links[place as usize] = Links {
            newer: NONE,
            older: self.newest,
        };
        match self.newest {
            NONE => self.oldest = place,
            newest => self.links[newest as usize].newer = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: Place) {
        let Links { newer, older } = self.links[place as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
    }
}

impl<K: Copy + Eq + Hash, V: Default> LruMap<K, V> {
    /// Place of the key's entry, which becomes the newest: at `cached` if it is still there, else
    /// by lookup, else begun anew. An entry that has to make room is counted in `evicted`.
    pub fn touch_or_insert(&mut self, cached: Place, key: K, evicted: &mut u64) -> Place {
        if let Some(place) = self.find_at(cached, &key) {
            self.touch(place);
            return place;
        }
        if self.is_full()
            && let Some(oldest) = self.oldest()
        {
            self.remove(oldest);
            *evicted += 1;
        }
        self.insert(key, V::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list kept in order: same keys, same order, never over the bound.
        #[test]
        fn behaves_like_an_ordered_list(operations in proptest::collection::vec((0u8..3, 0u16..24), 0..400)) {
            let mut map = LruMap::new(8);
            let mut list: Vec<(u16, u16)> = Vec::new();
            for (operation, key) in operations {
                match (operation, map.find(&key)) {
                    (0, None) => {
                        if map.is_full() {
                            let oldest = map.oldest().unwrap();
                            prop_assert_eq!(*map.key_at(oldest), list.remove(0).0);
                            map.remove(oldest);
                        }
                        map.insert(key, key * 2);
                        list.push((key, key * 2));
                    }
                    (1, Some(place)) => {
                        map.touch(place);
                        let at = list.iter().position(|entry| entry.0 == key).unwrap();
                        let entry = list.remove(at);
                        list.push(entry);
                    }
                    (2, Some(place)) => {
                        map.remove(place);
                        list.retain(|entry| entry.0 != key);
                    }
                    _ => {}
                }
                let got: Vec<_> = map.places().map(|p| (*map.key_at(p), *map.at(p))).collect();
                let expected: Vec<_> = list.iter().rev().copied().collect();
                prop_assert_eq!(got, expected);
                prop_assert!(map.len() <= 8);
            }
        }
    }
}
