use proptest::prelude::*;

use super::super::testing::{self, Numbers};
use super::super::{Forest, Node};
use super::*;

type Row = [f32; FEATURES];

const SPECIAL: [f32; 8] = [
    0.0,
    -0.0,
    f32::MIN_POSITIVE,
    1e-45,
    -1.5,
    0.5,
    f32::MAX,
    f32::MIN,
];

/// Some trees that ask the first `features` features; some thresholds are such as are easily
/// mistaken.
fn trees(
    numbers: &mut Numbers,
    count: usize,
    splits: usize,
    features: usize,
    classes: usize,
) -> Vec<Tree> {
    let mut tree = || {
        let splits = numbers.below(splits + 1);
        let mut tree = testing::tree(numbers, splits, classes);
        for node in tree.nodes.iter_mut().filter(|node| !node.is_leaf()) {
            node.feature = numbers.below(features) as u8;
            if numbers.below(4) == 0 {
                node.threshold = SPECIAL[numbers.below(SPECIAL.len())];
            }
        }
        Tree::new(tree.nodes, tree.attack, tree.leaf_classes, classes).expect("keeps the rules")
    };
    (0..count).map(|_| tree()).collect()
}

/// A tree with every split of as many levels, of two classes.
fn full(numbers: &mut Numbers, levels: u32) -> Tree {
    let splits = 2_usize.pow(levels) - 1;
    let nodes: Vec<_> = (0..2 * splits + 1)
        .map(|at| match at < splits {
            true => Node {
                threshold: numbers.unit(),
                left: 2 * at as u16 + 1,
                feature: numbers.below(FEATURES) as u8,
                flags: 0,
            },
            false => Node::leaf(at as u16, 1),
        })
        .collect();
    let attack: Vec<_> = nodes.iter().map(|_| numbers.below(65_536) as u16).collect();
    let leaf_classes = attack[splits..].to_vec();
    Tree::new(nodes, attack, leaf_classes, 2).expect("keeps the rules")
}

/// A row of values at thresholds of the trees, just above and below them, and of no numbers.
fn row(numbers: &mut Numbers, trees: &[Tree]) -> Row {
    std::array::from_fn(|_| {
        let tree = &trees[numbers.below(trees.len())];
        let value = tree.nodes[numbers.below(tree.nodes.len())].threshold;
        match numbers.below(12) {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            2 => -value,
            3 | 4 => value.next_up(),
            5 | 6 => value.next_down(),
            7 | 8 => numbers.unit(),
            _ => value,
        }
    })
}

/// Numbers of the leaves that a row ends in, found node by node.
fn expected(serving: &Serving, trees: &[Tree], row: &Row) -> Vec<u32> {
    let first = serving.leaves.first.iter();
    let leaf = |(tree, first): (&Tree, &u32)| first + u32::from(tree.leaf_rank[tree.leaf(row)]);
    trees.iter().zip(first).map(leaf).collect()
}

fn reached(leaves: &Leaves) -> Vec<u32> {
    let mut reached: Vec<_> = leaves.reached().iter().map(|leaf| leaf & !LEAF).collect();
    reached.sort_unstable();
    reached
}

/// A whole number of rows that go together, then as few as may: both end in the leaves that the
/// nodes lead to.
fn agree_together(serving: &Serving, trees: &[Tree], rows: &[Row], leaves: &mut Leaves) {
    use super::together::{ROWS, ROWS_MIN};
    let many: Vec<Row> = rows.iter().cycle().take(ROWS + ROWS_MIN).copied().collect();
    let mut told = 0;
    serving.walk_each(trees, &many, leaves, |at, mut walked| {
        assert_eq!(at, told);
        told += 1;
        let tree_leaves = trees.iter().map(|tree| (tree, tree.leaf(&many[at])));
        let attack: u32 = tree_leaves
            .map(|(tree, leaf)| u32::from(tree.attack[leaf]))
            .sum();
        assert_eq!(walked.attack, attack);
        let expected = expected(serving, trees, &many[at]);
        assert_eq!(reached(walked.leaves()), expected);
    });
    assert_eq!(told, many.len());
}

/// Every way to walk ends in the leaves that the nodes lead to.
fn agree(trees: &[Tree], rows: &[Row], classes: usize) {
    let serving = Serving::new(trees, classes - 1);
    let mut leaves = Leaves::default();
    for row in rows {
        let expected = expected(&serving, trees, row);
        let sum = serving.walk(trees, row, &mut leaves);
        assert_eq!(reached(&leaves), expected);
        let tree_leaves = || trees.iter().map(|tree| (tree, tree.leaf(row)));
        let attack: u32 = tree_leaves()
            .map(|(tree, leaf)| u32::from(tree.attack[leaf]))
            .sum();
        assert_eq!(sum, attack);
        let shares = serving.class_shares(&leaves);
        let votes = serving.votes(&leaves);
        for (class, votes) in (0..classes).zip(votes) {
            let vote = |(tree, leaf): &(&Tree, usize)| usize::from(tree.nodes[*leaf].vote());
            let voted = tree_leaves().filter(|at| vote(at) == class);
            assert_eq!(votes as usize, voted.count());
        }
        for (class, shares) in (1..classes).zip(shares.as_flattened()) {
            let share = |(tree, leaf): (&Tree, usize)| {
                let at = usize::from(tree.leaf_rank[leaf]) * (classes - 1) + class - 1;
                u32::from(tree.leaf_classes[at])
            };
            assert_eq!(*shares, tree_leaves().map(share).sum::<u32>());
        }
        if let Some(splits) = &serving.splits {
            splits.walk_plainly(row, &mut leaves.alone);
            assert_eq!(reached(&leaves), expected, "without vectors");
        }
    }
    agree_together(&serving, trees, rows, &mut leaves);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn vectors_and_plain_code_reach_the_leaves_that_the_nodes_lead_to(
        seed: u64,
        count in 1_usize..70,
        splits in 0_usize..120,
        features in 1..=FEATURES,
        classes in 2..=CLASSES_MAX,
    ) {
        let mut numbers = Numbers(seed);
        let trees = trees(&mut numbers, count, splits, features, classes);
        let rows: Vec<_> = (0..20).map(|_| row(&mut numbers, &trees)).collect();
        agree(&trees, &rows, classes);
    }
}

#[test]
fn groups_that_are_full_by_one_more_or_less_lose_no_tree() {
    let mut numbers = Numbers(1);
    for count in [1, 31, 32, 33, 64, 100, TREES_MAX] {
        let trees = trees(&mut numbers, count, 30, FEATURES, 3);
        let rows: Vec<_> = (0..20).map(|_| row(&mut numbers, &trees)).collect();
        agree(&trees, &rows, 3);
    }
}

#[test]
fn a_feature_with_more_thresholds_than_a_byte_counts_has_several_slots() {
    // Slots: a piece of the vectors' tables, several, all there are, and too many.
    for (features, trees, levels, slots) in [
        (1, 1, 9, Some(3)),
        (FEATURES, 2, 12, Some(FEATURES)),
        (FEATURES, 2, 14, Some(2 * FEATURES)),
        (FEATURES, 4, 14, None),
    ] {
        let mut numbers = Numbers(2);
        let trees: Vec<_> = (0..trees)
            .map(|_| {
                let mut tree = full(&mut numbers, levels);
                for node in tree.nodes.iter_mut().filter(|node| !node.is_leaf()) {
                    node.feature %= features as u8;
                }
                tree
            })
            .collect();
        let serving = Serving::new(&trees, 1);
        assert_eq!(serving.splits.map(|splits| splits.slots.len()), slots);
        let rows: Vec<_> = (0..300).map(|_| row(&mut numbers, &trees)).collect();
        agree(&trees, &rows, 2);
    }
}

#[test]
fn a_tree_as_deep_as_may_be_is_walked_to_its_end() {
    // Every left child is a leaf, every right one a split but the last.
    let depth = super::super::forest::DEPTH_MAX;
    let mut nodes = Vec::new();
    for level in 0..depth {
        nodes.push(Node {
            threshold: level as f32,
            left: nodes.len() as u16 + 1,
            feature: 3,
            flags: 0,
        });
        nodes.push(Node::leaf(nodes.len() as u16, 0));
    }
    nodes.push(Node::leaf(nodes.len() as u16, 1));
    let attack: Vec<_> = (0..nodes.len() as u16).collect();
    let leaf_classes = (0..nodes.len())
        .filter(|at| nodes[*at].is_leaf())
        .map(|at| at as u16);
    let leaf_classes = leaf_classes.collect();
    let tree = Tree::new(nodes, attack, leaf_classes, 2).expect("keeps the rules");
    let rows: Vec<_> = (-1..66)
        .map(|value| [value as f32 + 0.5; FEATURES])
        .collect();
    agree(std::slice::from_ref(&tree), &rows, 2);
    assert!(Forest::new(vec![tree], 2).is_ok());
}

#[cfg(feature = "train")]
#[test]
fn rows_of_the_committed_table_end_in_the_same_leaves() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("model/features.csv.gz");
    let table = crate::train::table::Table::read(&path).expect("the committed table");
    let rows: Vec<_> = table
        .rows
        .iter()
        .step_by(61)
        .map(|row| row.features)
        .collect();
    let model = super::super::embedded().expect("the model of this build");
    agree(model.parts().forest.trees(), &rows, model.classes().len());
}
