//! The walk of many rows through one tree after the other.
//!
//! Every split of a tree is asked for all rows at once, from the leaves to the root: the number of
//! the leaf that a row would reach below a split is chosen out of those of its two children by the
//! row's rank. That asks each split of a tree instead of one a level, but with vectors a split costs
//! a few instructions for 32 rows, and nothing is guessed: no branch depends on a row. Without vectors
//! it would cost more than to walk alone, and rows walk alone.

use super::super::forest::{TREES_MAX, Tree};
use super::{Abreast, LANES, Leaves, Places, Rank, SLOTS_MAX, Serving};
use crate::flow::FEATURES;

/// Vectors of rows that are walked at once.
pub(super) const VECTORS: usize = 2;

/// Rows that are walked at once.
pub(super) const ROWS: usize = VECTORS * LANES;

/// With fewer rows than this each goes alone: the splits cost the same however many rows there are, and
/// 64 together take about as long as 28 (100 trees) or 32 (50 trees) alone.
pub(super) const ROWS_MIN: usize = 32;

/// Leaves of a tree whose number has one byte.
pub(super) const LEAVES_MAX: usize = 256;

/// Numbers of the leaves, and behind them what each split chose: one less than there are leaves.
pub(super) const VALUES: usize = 2 * LEAVES_MAX;

/// A byte of each row.
pub(super) type Bytes<T> = [Abreast<T>; VECTORS];

/// A split, with its children's places among the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) left: u16,
    pub(super) right: u16,
    pub(super) slot: u8,
    pub(super) rank: Rank,
}

/// The splits of a tree, children before their parents. None of a tree with more than
/// [`LEAVES_MAX`] leaves, which is walked node by node.
pub(super) type Steps = Option<Vec<Step>>;

/// Scratch space, about 120 KiB.
pub(super) struct Together {
    /// By slot.
    pub(super) ranks: Box<[Bytes<Rank>; SLOTS_MAX]>,
    pub(super) values: Box<[Bytes<u8>; VALUES]>,
    /// By tree: number of the leaf within the tree.
    pub(super) reached: Box<[[u16; ROWS]; TREES_MAX]>,
}

impl Default for Together {
    fn default() -> Self {
        let mut values = Box::new([[Abreast([0; LANES]); VECTORS]; VALUES]);
        for (number, value) in values[..LEAVES_MAX].iter_mut().enumerate() {
            *value = [Abreast([number as u8; LANES]); VECTORS];
        }
        Self {
            ranks: Box::new([[Abreast([Rank(0); LANES]); VECTORS]; SLOTS_MAX]),
            values,
            reached: Box::new([[0; ROWS]; TREES_MAX]),
        }
    }
}

/// The steps of a tree.
pub(super) fn steps(tree: &Tree, places: &Places) -> Steps {
    let splits = tree.nodes.iter().filter(|node| !node.is_leaf()).count();
    if splits >= LEAVES_MAX {
        return None;
    }
    let mut steps = Vec::with_capacity(splits);
    let mut value = vec![0_u16; tree.nodes.len()];
    for (at, node) in tree.nodes.iter().enumerate().rev() {
        if node.is_leaf() {
            value[at] = tree.leaf_rank[at];
            continue;
        }
        let (slot, rank) = places.of(node.feature, node.threshold);
        let left = usize::from(node.left);
        value[at] = (LEAVES_MAX + steps.len()) as u16;
        steps.push(Step {
            left: value[left],
            right: value[left + 1],
            slot,
            rank,
        });
    }
    Some(steps)
}

/// A row whose leaves are known.
pub(in crate::model) struct Walked<'a> {
    serving: &'a Serving,
    leaves: &'a mut Leaves,
    /// Its place among the rows walked together; None of one that went alone.
    place: Option<usize>,
    /// Sum of the attack shares of its leaves.
    pub(in crate::model) attack: u32,
}

impl<'a> Walked<'a> {
    /// Its leaves, in scratch space.
    pub(super) fn leaves(&mut self) -> &Leaves {
        if let Some(place) = self.place.take() {
            let firsts = &self.serving.leaves.first;
            let numbers = self.leaves.together.reached.iter();
            let into = self.leaves.alone.reached.iter_mut();
            for ((into, first), numbers) in into.zip(firsts).zip(numbers) {
                *into = first + u32::from(numbers[place]);
            }
            self.leaves.alone.leaves = firsts.len();
        }
        self.leaves
    }

    /// See [`Serving::class_shares`].
    pub(in crate::model) fn class_shares(&mut self) -> super::ClassSums {
        let serving = self.serving;
        serving.class_shares(self.leaves())
    }

    /// See [`Serving::votes`].
    pub(in crate::model) fn votes(&mut self) -> [u32; super::VOTES] {
        let serving = self.serving;
        serving.votes(self.leaves())
    }
}

impl Serving {
    /// Walks rows through every tree, many together where there are many, and tells of each in its
    /// order.
    pub(in crate::model) fn walk_each(
        &self,
        trees: &[Tree],
        rows: &[[f32; FEATURES]],
        leaves: &mut Leaves,
        mut tell: impl FnMut(usize, Walked<'_>),
    ) {
        for (chunk, rows) in rows.chunks(ROWS).enumerate() {
            let sums = self.walk_together(trees, rows, leaves);
            for (at, row) in rows.iter().enumerate() {
                let (place, attack) = match &sums {
                    Some(sums) => (Some(at), sums[at]),
                    None => (None, self.walk(trees, row, leaves)),
                };
                let walked = Walked {
                    serving: self,
                    leaves,
                    place,
                    attack,
                };
                tell(chunk * ROWS + at, walked);
            }
        }
    }

    /// Sums of the attack shares of at most [`ROWS`] rows; None where they are better walked alone.
    fn walk_together(
        &self,
        trees: &[Tree],
        rows: &[[f32; FEATURES]],
        leaves: &mut Leaves,
    ) -> Option<[u32; ROWS]> {
        let splits = self.splits.as_ref()?;
        if rows.len() < ROWS_MIN || !splits.walk_together(trees, rows, &mut leaves.together) {
            return None;
        }
        let mut sums = [0; ROWS];
        for (reached, first) in leaves.together.reached.iter().zip(&self.leaves.first) {
            let attack = &self.leaves.attack[*first as usize..];
            for (sum, leaf) in sums.iter_mut().zip(reached) {
                *sum += u32::from(attack[usize::from(*leaf)]);
            }
        }
        Some(sums)
    }
}
