//! Forests made up from a seed, for tests.

use super::{Forest, Knot, ModelParts, Node, Tree};
use crate::flow::FEATURES;

/// A small generator of numbers (SplitMix64), so that tests need no clock and no crate.
pub(crate) struct Numbers(pub u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    pub(crate) fn row(&mut self) -> [f32; FEATURES] {
        std::array::from_fn(|_| self.unit())
    }
}

/// A tree of about `splits` splits.
pub(crate) fn tree(numbers: &mut Numbers, splits: usize, classes: usize) -> Tree {
    let mut nodes = vec![Node::leaf(0, 0)];
    let mut depths = vec![0];
    for _ in 0..splits {
        // Children stand after their parents: only leaves among the last ones may be split.
        let at = numbers.below(nodes.len());
        if !nodes[at].is_leaf() || depths[at] >= 12 {
            continue;
        }
        let left = nodes.len();
        nodes[at] = Node {
            threshold: numbers.unit(),
            left: left as u16,
            feature: numbers.below(FEATURES) as u8,
            flags: 0,
        };
        for child in [left, left + 1] {
            nodes.push(Node::leaf(child as u16, numbers.below(classes) as u8));
            depths.push(depths[at] + 1);
        }
    }
    let mut attack = Vec::new();
    let mut leaf_classes = Vec::new();
    for node in &nodes {
        if node.is_leaf() {
            let shares: Vec<u16> = (1..classes)
                .map(|_| numbers.below(60_000 / classes) as u16)
                .collect();
            attack.push(shares.iter().sum());
            leaf_classes.extend(shares);
        } else {
            attack.push(numbers.below(65_536) as u16);
        }
    }
    Tree::new(nodes, attack, leaf_classes, classes).expect("a made-up tree keeps the rules")
}

/// Parts of a model with `trees` trees of three classes.
pub(crate) fn parts(seed: u64, trees: usize, splits: usize) -> ModelParts {
    let mut numbers = Numbers(seed);
    let trees = (0..trees).map(|_| tree(&mut numbers, splits, 3)).collect();
    let knot = |score, value| Knot { score, value };
    ModelParts {
        schema_digest: crate::flow::schema::digest(),
        classes: ["normal", "scan", "flood"].map(String::from).to_vec(),
        suspicious: 0.6,
        unsure: 0.4,
        reference_share: 0.5,
        calibration: vec![knot(0.2, 0.0), knot(0.5, 0.4), knot(0.9, 1.0)],
        false_alarms: vec![knot(0.0, 90.0), knot(0.5, 3.0), knot(0.8, 0.25)],
        card: "{}".to_string(),
        forest: Forest::new(trees, 3).expect("a made-up forest keeps the rules"),
    }
}
