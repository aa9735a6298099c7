//! Trees as flat arrays, checked; how rows are walked through them stands in [`super::serving`].

use super::Explanation;
use super::serving::{Leaves, Serving, Walked};
use crate::flow::FEATURES;

/// The share 1 in the fixed-point shares of nodes.
pub const SHARE_ONE: u16 = u16::MAX;

/// Most trees of a forest; sizes the scratch space of a walk.
pub(super) const TREES_MAX: usize = 512;

/// Most classes, normal included.
pub(super) const CLASSES_MAX: usize = 32;

/// Longest way from a root to a leaf, in splits.
pub(super) const DEPTH_MAX: usize = 64;

/// A split or a leaf: 8 bytes, so that a cache line holds eight.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Node {
    /// A row goes right when its feature is greater. Of a leaf: +∞, so that no row leaves it.
    pub threshold: f32,
    /// Index of the left child within the tree; the right one is next to it. Of a leaf: itself.
    pub left: u16,
    /// Feature asked. Of a leaf: 0.
    pub feature: u8,
    /// [`Node::LEAF`] and, of a leaf, the class the trainer's majority gave it.
    pub flags: u8,
}

const _: () = assert!(size_of::<Node>() == 8);
// Feature indices have one byte.
const _: () = assert!(FEATURES <= 256);

impl Node {
    /// Bit of [`Node::flags`] that marks a leaf; the bits below are its voted class.
    pub const LEAF: u8 = 0x80;

    /// A leaf at `index` with the class of the trainer's majority.
    #[must_use]
    pub const fn leaf(index: u16, vote: u8) -> Self {
        Self {
            threshold: f32::INFINITY,
            left: index,
            feature: 0,
            flags: Self::LEAF | vote,
        }
    }

    /// True for a leaf.
    #[must_use]
    pub const fn is_leaf(&self) -> bool {
        self.flags & Self::LEAF != 0
    }

    /// Class of the trainer's majority; meaningful for leaves.
    #[must_use]
    pub const fn vote(&self) -> u8 {
        self.flags & !Self::LEAF
    }

    /// Where a row with this feature value goes. A value that is no number goes left, and nowhere
    /// from a leaf.
    #[inline(always)]
    fn next(&self, value: f32) -> u16 {
        self.left + u16::from(value > self.threshold)
    }
}

/// One tree.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Tree {
    /// The root first, children after their parents.
    pub nodes: Vec<Node>,
    /// Per node its share of attack in units of 1 / [`SHARE_ONE`].
    pub attack: Vec<u16>,
    /// Per leaf in the order of the nodes: shares of the attack classes (all but the first), in
    /// units of 1 / [`SHARE_ONE`]; they sum to the leaf's `attack`.
    pub leaf_classes: Vec<u16>,
    /// Per node the number of leaves before it: where a leaf's shares stand in `leaf_classes`.
    pub(super) leaf_rank: Vec<u16>,
    /// Most splits between the root and a leaf.
    pub(super) depth: usize,
}

/// Why arrays are not a tree: the first rule broken.
pub(super) type Broken = &'static str;

impl Tree {
    /// A checked tree out of its arrays.
    ///
    /// # Errors
    /// The rule that the arrays break.
    pub fn new(
        nodes: Vec<Node>,
        attack: Vec<u16>,
        leaf_classes: Vec<u16>,
        classes: usize,
    ) -> Result<Self, Broken> {
        if classes < 2 {
            return Err("fewer than 2 classes");
        }
        let count = nodes.len();
        if count == 0 || count > usize::from(u16::MAX) {
            return Err("a tree without nodes or with more than 65535");
        }
        if attack.len() != count {
            return Err("as many shares as nodes");
        }
        let mut levels = vec![usize::MAX; count];
        levels[0] = 0;
        let mut leaf_rank = Vec::with_capacity(count);
        let mut leaves = 0;
        let mut depth = 0;
        for (index, node) in nodes.iter().enumerate() {
            let level = levels[index];
            if level == usize::MAX {
                return Err("a node that no split leads to");
            }
            if level > DEPTH_MAX {
                return Err("a tree that is too deep");
            }
            depth = depth.max(level);
            leaf_rank.push(leaves);
            if node.is_leaf() {
                let itself = usize::from(node.left) == index;
                if !itself || node.threshold != f32::INFINITY || node.feature != 0 {
                    return Err("a leaf that leads elsewhere");
                }
                if usize::from(node.vote()) >= classes {
                    return Err("a leaf of an unknown class");
                }
                let at = usize::from(leaves) * (classes - 1);
                let shares = leaf_classes
                    .get(at..at + classes - 1)
                    .ok_or("a leaf without class shares")?;
                let sum: u32 = shares.iter().copied().map(u32::from).sum();
                if sum != u32::from(attack[index]) {
                    return Err("class shares that do not sum to the share of attack");
                }
                leaves += 1;
                continue;
            }
            if node.flags != 0 {
                return Err("a split with unknown flags");
            }
            if usize::from(node.feature) >= FEATURES {
                return Err("a split by an unknown feature");
            }
            if !node.threshold.is_finite() {
                return Err("a split at a threshold that is not finite");
            }
            let left = usize::from(node.left);
            if left <= index || left + 1 >= count {
                return Err("a child before its parent or outside the tree");
            }
            for child in [left, left + 1] {
                if levels[child] != usize::MAX {
                    return Err("a node with two parents");
                }
                levels[child] = level + 1;
            }
        }
        if leaf_classes.len() != usize::from(leaves) * (classes - 1) {
            return Err("more class shares than leaves");
        }
        Ok(Self {
            nodes,
            attack,
            leaf_classes,
            leaf_rank,
            depth,
        })
    }

    /// The leaf a row ends in, found node by node: the reference for every other walk.
    #[must_use]
    pub fn leaf(&self, row: &[f32; FEATURES]) -> usize {
        let mut at = 0;
        loop {
            let node = &self.nodes[at];
            if node.is_leaf() {
                return at;
            }
            at = usize::from(node.next(row[usize::from(node.feature)]));
        }
    }
}

/// Trees of one set of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    trees: Vec<Tree>,
    attack_classes: usize,
    serving: Serving,
}

impl Forest {
    /// A forest of checked trees.
    ///
    /// # Errors
    /// The rule broken: 1 to [`TREES_MAX`] trees, 2 to [`CLASSES_MAX`] classes.
    pub fn new(trees: Vec<Tree>, classes: usize) -> Result<Self, Broken> {
        if trees.is_empty() || trees.len() > TREES_MAX {
            return Err("a forest without trees or with more than 512");
        }
        if !(2..=CLASSES_MAX).contains(&classes) {
            return Err("fewer than 2 or more than 32 classes");
        }
        // Half of the nodes of a tree, and one, are leaves.
        let shares = |tree: &Tree| tree.nodes.len().div_ceil(2) * (classes - 1);
        if trees
            .iter()
            .any(|tree| tree.leaf_classes.len() != shares(tree))
        {
            return Err("a tree of another number of classes");
        }
        Ok(Self {
            serving: Serving::new(&trees, classes - 1),
            trees,
            attack_classes: classes - 1,
        })
    }

    /// The trees.
    #[must_use]
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Score and most probable attack class of each row, whatever the score: what the trainer
    /// sets thresholds by.
    #[must_use]
    pub fn judge_all(&self, rows: &[[f32; FEATURES]]) -> Vec<(f32, u8)> {
        let mut judged = Vec::with_capacity(rows.len());
        self.walk_each(rows, &mut Leaves::default(), |_, mut walked| {
            judged.push((self.score_of(walked.attack), self.attack_class(&mut walked)));
        });
        judged
    }

    /// Walks rows through all trees and tells of each, by its place.
    pub(super) fn walk_each(
        &self,
        rows: &[[f32; FEATURES]],
        leaves: &mut Leaves,
        tell: impl FnMut(usize, Walked<'_>),
    ) {
        self.serving.walk_each(&self.trees, rows, leaves, tell);
    }

    /// Score of a sum of attack shares over all trees.
    #[inline]
    pub(super) fn score_of(&self, sum: u32) -> f32 {
        self.scaled(f64::from(sum))
    }

    /// A sum of shares over all trees as a mean.
    #[inline]
    fn scaled(&self, sum: f64) -> f32 {
        (sum / (f64::from(SHARE_ONE) * self.trees.len() as f64)) as f32
    }

    /// Most probable attack class of a row; the lowest of equals.
    pub(super) fn attack_class(&self, walked: &mut Walked<'_>) -> u8 {
        let sums = walked.class_shares();
        let sums = &sums.as_flattened()[..self.attack_classes];
        first_of_most(sums) as u8 + 1
    }

    /// See [`super::Model::votes`].
    pub(super) fn votes(&self, row: &[f32; FEATURES], classes: usize) -> Vec<u32> {
        let mut votes = vec![0; classes];
        for tree in &self.trees {
            votes[usize::from(tree.nodes[tree.leaf(row)].vote())] += 1;
        }
        votes
    }

    /// See [`super::Model::majority`].
    pub(super) fn majority(&self, rows: &[[f32; FEATURES]], leaves: &mut Leaves) -> Vec<u8> {
        let mut majority = Vec::with_capacity(rows.len());
        self.walk_each(rows, leaves, |_, mut walked| {
            majority.push(first_of_most(&walked.votes()[..=self.attack_classes]) as u8);
        });
        majority
    }

    /// See [`super::Model::explain`].
    pub(super) fn explain(&self, row: &[f32; FEATURES]) -> Explanation {
        let mut bias = 0_i64;
        let mut parts = [0_i64; FEATURES];
        for tree in &self.trees {
            bias += i64::from(tree.attack[0]);
            let mut at = 0;
            while !tree.nodes[at].is_leaf() {
                let node = &tree.nodes[at];
                let feature = usize::from(node.feature);
                let next = usize::from(node.next(row[feature]));
                parts[feature] += i64::from(tree.attack[next]) - i64::from(tree.attack[at]);
                at = next;
            }
        }
        Explanation {
            bias: self.scaled(bias as f64),
            contributions: parts.map(|part| self.scaled(part as f64)),
        }
    }
}

/// Where the greatest number stands first.
fn first_of_most(numbers: &[u32]) -> usize {
    let mut best = 0;
    for (at, number) in numbers.iter().enumerate() {
        if *number > numbers[best] {
            best = at;
        }
    }
    best
}
