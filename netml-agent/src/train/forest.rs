//! Rows to trees: smartcore grows them one at a time, our own arrays carry them.
//!
//! smartcore's fitting time grows with about the square of the rows, and it knows neither class
//! weights nor probabilities nor threads. So each tree is a one-tree forest over a small sample in
//! which attack and normal, the classes, and the groups and kinds within a class have equal parts;
//! trees are grown on all cores, each from its own seed, and their leaves are filled anew with the
//! class shares of all training rows. The result does not depend on the number of cores.

use serde::Deserialize;
use smartcore::ensemble::random_forest_classifier::{
    RandomForestClassifier, RandomForestClassifierParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::captures::parallel;
use super::classes::{
    ATTACK_CLASSES_MAX, CLASS_ROWS_MIN, NORMAL, OTHER, class_of, sampling_weight,
};
use super::random::Random;
use super::table::Table;
use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;
use crate::model::{Forest, Node, SHARE_ONE, Tree};

/// Features no tree asks, by name: absolute times, rates, volumes and sizes tell one lab from
/// another. Leaving them out raised recall on groups left out of training at the same false
/// positives (docs/model.md has the figures). The schema keeps them for tables and for later.
pub const LEFT_OUT: [&str; 27] = [
    "flow_packets_log2",
    "flow_fwd_payload_cv",
    "flow_rev_payload_cv",
    "flow_fwd_payload_bytes_log2",
    "flow_rev_payload_bytes_log2",
    "flow_fwd_first_payload_log2",
    "flow_rev_first_payload_log2",
    "flow_duration_ms_log2",
    "flow_gap_mean_ms_log2",
    "flow_gap_cv",
    "flow_gap_last_ms_log2",
    "flow_gap_max_ms_log2",
    "flow_packets_per_s_log2",
    "flow_bytes_per_s_log2",
    "flow_dst_port_class",
    "flow_dst_multicast",
    "src_packets_log2",
    "src_flows_log2",
    "src_flows_per_packet",
    "dst_packets_log2",
    "dst_flows_log2",
    "dst_flows_per_packet",
    "dst_waiting_log2",
    "pair_packets_log2",
    "pair_flows_log2",
    "pair_byte_balance",
    "pair_waiting_log2",
];

/// Indices of the features that trees may ask.
#[must_use]
pub fn asked_features() -> Vec<usize> {
    (0..FEATURES)
        .filter(|&feature| !LEFT_OUT.contains(&FEATURE_SPECS[feature].name))
        .collect()
}

/// Most rows of one tree's sample.
pub const TREE_ROWS_MAX: usize = 10_000;

/// How trees are grown.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Settings {
    /// Seed of everything random.
    pub seed: u64,
    /// Trees, 1 to 512.
    pub trees: usize,
    /// Rows drawn for each tree, at most [`TREE_ROWS_MAX`].
    pub tree_rows: usize,
    /// Most splits between root and leaf.
    pub depth: u16,
    /// Least drawn rows in a leaf.
    pub leaf_rows: usize,
    /// Features tried at each split.
    pub split_features: usize,
    /// Share of attack rows in each tree's sample.
    pub attack_share: f64,
    /// How the classes of attack share that. The card of a model tells it only where it is not the
    /// shipped one.
    #[serde(skip_serializing_if = "ClassWeights::is_shipped")]
    pub class_weights: ClassWeights,
}

/// Parts of the classes of attack in the rows that trees are grown on and leaves are filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// By [`sampling_weight`].
    #[default]
    Shipped,
    /// All alike.
    Alike,
    /// By the square of it.
    Squared,
}

impl ClassWeights {
    const fn is_shipped(&self) -> bool {
        matches!(self, Self::Shipped)
    }

    /// Part of a class against the others.
    fn of(self, class: &str) -> f64 {
        match self {
            Self::Shipped => sampling_weight(class),
            Self::Alike => 1.0,
            Self::Squared => sampling_weight(class).powi(2),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            trees: 100,
            tree_rows: 4_000,
            depth: 14,
            leaf_rows: 8,
            split_features: 8,
            attack_share: 0.5,
            class_weights: ClassWeights::Shipped,
        }
    }
}

/// Why no forest came of the rows.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Only attack or only benign rows.
    #[error(
        "all {rows} training rows are {class}: a forest needs attack and benign rows, from several groups"
    )]
    OneClass {
        /// Training rows.
        rows: usize,
        /// "attack" or "benign".
        class: &'static str,
    },
    /// The same once a fold is left out.
    #[error(
        "without {groups} all {rows} training rows are {class}: each group is left out once, so attack and benign rows must be in two groups each, or more"
    )]
    OneClassWithout {
        /// Groups of the fold.
        groups: String,
        /// Training rows.
        rows: usize,
        /// "attack" or "benign".
        class: &'static str,
    },
    /// Too few to learn from.
    #[error(
        "{rows} {class} rows are too few to learn from: {CLASS_ROWS_MIN} are needed, of several captures"
    )]
    TooFew {
        /// Rows of the class.
        rows: usize,
        /// "attack" or "benign".
        class: &'static str,
    },
    /// The trainer refused.
    #[error("growing tree {tree} failed: {cause}")]
    Trainer {
        /// Number of the tree.
        tree: usize,
        /// What the trainer said.
        cause: String,
    },
    /// A tree that cannot be served.
    #[error("tree {tree} cannot be served: {what}")]
    Export {
        /// Number of the tree.
        tree: usize,
        /// The rule it breaks.
        what: &'static str,
    },
}

/// Rows to learn from, by class and cell (one group and kind).
pub struct Training<'a> {
    table: &'a Table,
    /// Class names; the first is normal.
    pub classes: Vec<String>,
    /// Per class its cells, each the indices of its rows.
    cells: Vec<Vec<Vec<usize>>>,
}

impl<'a> Training<'a> {
    /// Sorts the rows for which `wanted` holds into classes and cells. Rows that repeat a vector
    /// are left out.
    ///
    /// # Errors
    /// [`FitError::OneClass`].
    pub fn new(table: &'a Table, wanted: impl Fn(usize) -> bool) -> Result<Self, FitError> {
        let rows = || {
            let fit = table.rows.iter().enumerate().filter(|(_, row)| row.fit);
            fit.filter(|(index, _)| wanted(*index))
        };
        let classes = class_names(table, rows().map(|(_, row)| row));
        let mut cells: Vec<std::collections::BTreeMap<(u32, u32), Vec<usize>>> =
            vec![Default::default(); classes.len()];
        for (index, row) in rows() {
            let class = class_index(&classes, table.kinds.name(row.kind), row.attack);
            let cell = (row.group, row.kind);
            cells[class].entry(cell).or_default().push(index);
        }
        let attack = classes.len() > 1;
        if cells[0].is_empty() || !attack {
            return Err(FitError::OneClass {
                rows: rows().count(),
                class: if attack { "attack" } else { "benign" },
            });
        }
        Ok(Self {
            table,
            classes,
            cells: cells
                .into_iter()
                .map(|cells| cells.into_values().collect())
                .collect(),
        })
    }

    /// Refuses classes that are too small for a model.
    ///
    /// # Errors
    /// [`FitError::TooFew`].
    pub fn check_size(&self) -> Result<(), FitError> {
        let rows = |cells: &[Vec<Vec<usize>>]| cells.iter().flatten().map(Vec::len).sum();
        let (benign, attack) = self.cells.split_at(1);
        for (rows, class) in [(rows(benign), "benign"), (rows(attack), "attack")] {
            if rows < CLASS_ROWS_MIN {
                return Err(FitError::TooFew { rows, class });
            }
        }
        Ok(())
    }

    /// A sample of rows with their classes: attack in the share asked for, then every class and
    /// every cell of a class alike.
    pub(super) fn sample(&self, settings: &Settings, random: &mut Random) -> Vec<(usize, usize)> {
        let count = settings.tree_rows.min(TREE_ROWS_MAX);
        #[expect(clippy::cast_sign_loss, reason = "a share is not negative")]
        let attack_rows = (count as f64 * settings.attack_share).round() as usize;
        let shares = self.attack_shares(settings.class_weights);
        (0..count)
            .map(|drawn| {
                let class = if drawn < attack_rows {
                    class_at(&shares, random.unit())
                } else {
                    0
                };
                let cells = &self.cells[class];
                let cell = &cells[random.below(cells.len())];
                (cell[random.below(cell.len())], class)
            })
            .collect()
    }

    /// Share of each attack class among attacks; the first class has none.
    fn attack_shares(&self, weights: ClassWeights) -> Vec<f64> {
        let mut shares: Vec<f64> = self.classes.iter().map(|c| weights.of(c)).collect();
        shares[0] = 0.0;
        let sum: f64 = shares.iter().sum();
        shares.iter().map(|share| share / sum).collect()
    }

    /// Every training row with its class and weight: attack and normal weigh alike, classes of
    /// attack as they are drawn, the cells of a class alike, and so the rows of a cell.
    fn weighted(&self, weights: ClassWeights) -> Weighted<'_> {
        let shares = self.attack_shares(weights);
        let mut rows = Vec::new();
        for (class, cells) in self.cells.iter().enumerate() {
            let of_class = if class == 0 { 1.0 } else { shares[class] };
            for cell in cells {
                let weight = of_class / (cells.len() * cell.len()) as f64;
                let features = |row: &usize| &self.table.rows[*row].features;
                rows.extend(cell.iter().map(|row| (features(row), class, weight)));
            }
        }
        Weighted {
            rows,
            classes: self.classes.len(),
        }
    }

    /// What reaches each node of each of some trees: the result of `of` over the nodes and the sums,
    /// in the order of the trees.
    pub(super) fn over_trees<'n, T: Send>(
        &self,
        weights: ClassWeights,
        trees: &[&'n [Node]],
        of: impl Fn(&'n [Node], &[f64]) -> T + Sync,
    ) -> Vec<T> {
        let weighted = self.weighted(weights);
        parallel(trees.len(), |tree| {
            of(trees[tree], &weighted.reaching(trees[tree]))
        })
    }
}

/// The class at a place between 0 and 1, by the classes' shares.
fn class_at(shares: &[f64], place: f64) -> usize {
    let mut upto = 0.0;
    for (class, share) in shares.iter().enumerate() {
        upto += share;
        if place < upto {
            return class;
        }
    }
    shares.len() - 1
}

/// Training rows with their classes and weights.
struct Weighted<'a> {
    rows: Vec<(&'a [f32; FEATURES], usize, f64)>,
    classes: usize,
}

impl Weighted<'_> {
    /// Per node the weight of each class that reaches it.
    fn reaching(&self, nodes: &[Node]) -> Vec<f64> {
        let mut sums = vec![0.0; nodes.len() * self.classes];
        for &(features, class, weight) in &self.rows {
            let mut at = 0;
            loop {
                sums[at * self.classes + class] += weight;
                let node = &nodes[at];
                if node.is_leaf() {
                    break;
                }
                let right = features[usize::from(node.feature)] > node.threshold;
                at = usize::from(node.left) + usize::from(right);
            }
        }
        sums
    }
}

/// Class names of the rows: normal, then attacks in the order of the alphabet, rare ones merged.
fn class_names<'a>(
    table: &Table,
    rows: impl Iterator<Item = &'a super::table::Row>,
) -> Vec<String> {
    let mut counts: std::collections::BTreeMap<&str, usize> = Default::default();
    for row in rows.filter(|row| row.attack) {
        *counts
            .entry(class_of(table.kinds.name(row.kind)))
            .or_default() += 1;
    }
    let mut by_size: Vec<_> = counts.into_iter().collect();
    by_size.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let all = by_size.len();
    let mut names: Vec<String> = by_size
        .iter()
        .enumerate()
        .filter(|(place, (_, count))| *count >= CLASS_ROWS_MIN && *place < ATTACK_CLASSES_MAX)
        .map(|(_, (name, _))| (*name).to_string())
        .collect();
    if names.len() < all && !names.iter().any(|name| name == OTHER) {
        names.push(OTHER.to_string());
    }
    names.sort();
    names.insert(0, NORMAL.to_string());
    names
}

/// Index of a row's class among the names.
#[must_use]
pub fn class_index(classes: &[String], kind: &str, attack: bool) -> usize {
    if !attack {
        return 0;
    }
    let of = |wanted: &str| classes.iter().position(|name| name == wanted);
    of(class_of(kind)).or_else(|| of(OTHER)).unwrap_or(0)
}

/// Grows a forest.
///
/// # Errors
/// [`FitError`] of the first tree that failed.
pub fn fit(training: &Training<'_>, settings: &Settings) -> Result<Forest, FitError> {
    let weighted = training.weighted(settings.class_weights);
    let trees = parallel(settings.trees, |tree| {
        let nodes = grow(training, settings, tree)?;
        fill(nodes, &weighted).map_err(|what| FitError::Export { tree, what })
    });
    let trees = trees.into_iter().collect::<Result<Vec<_>, _>>()?;
    Forest::new(trees, training.classes.len()).map_err(|what| FitError::Export { tree: 0, what })
}

/// The parts of smartcore's serialised form that matter here.
#[derive(Deserialize)]
struct Grown {
    trees: Vec<GrownTree>,
}

#[derive(Deserialize)]
struct GrownTree {
    nodes: Vec<GrownNode>,
    classes: Vec<usize>,
}

#[derive(Deserialize)]
struct GrownNode {
    output: usize,
    split_feature: usize,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

type Smartcore = RandomForestClassifier<f32, u32, DenseMatrix<f32>, Vec<u32>>;

/// Grows one tree and gives its nodes in the serving order, leaves without shares.
fn grow(training: &Training<'_>, settings: &Settings, tree: usize) -> Result<Vec<Node>, FitError> {
    let failed = |cause: String| FitError::Trainer { tree, cause };
    let mut random = Random::new(settings.seed, tree as u64);
    let sample = training.sample(settings, &mut random);
    let asked = asked_features();
    let (x, y) = matrix(training.table, &asked, &sample).map_err(failed)?;
    let parameters = RandomForestClassifierParameters::default()
        .with_n_trees(1)
        .with_max_depth(settings.depth)
        .with_min_samples_leaf(settings.leaf_rows)
        .with_min_samples_split(2 * settings.leaf_rows)
        .with_m(settings.split_features.min(asked.len()))
        .with_seed(random.next_u64());
    let forest = Smartcore::fit(&x, &y, parameters).map_err(|error| failed(error.to_string()))?;
    // Through a value and not through text, so that every threshold keeps all its bits.
    let grown = serde_json::to_value(&forest)
        .and_then(serde_json::from_value::<Grown>)
        .map_err(|error| failed(format!("its form has changed: {error}")))?;
    let grown = grown
        .trees
        .first()
        .ok_or_else(|| failed("no tree in the forest".into()))?;
    flatten(grown, &asked).map_err(|what| FitError::Export { tree, what })
}

/// A sample as smartcore wants it, column by column.
fn matrix(
    table: &Table,
    asked: &[usize],
    sample: &[(usize, usize)],
) -> Result<(DenseMatrix<f32>, Vec<u32>), String> {
    let values = asked
        .iter()
        .flat_map(|&feature| sample.iter().map(move |&(row, _)| (row, feature)))
        .map(|(row, feature)| table.rows[row].features[feature])
        .collect();
    let x = DenseMatrix::new(sample.len(), asked.len(), values, true).map_err(|e| e.to_string())?;
    let y = sample.iter().map(|&(_, class)| class as u32).collect();
    Ok((x, y))
}

/// Lays the trainer's nodes out so that siblings are neighbours and children follow parents.
fn flatten(grown: &GrownTree, asked: &[usize]) -> Result<Vec<Node>, &'static str> {
    let mut nodes: Vec<Node> = Vec::with_capacity(grown.nodes.len());
    // Places in `nodes`, level by level; each with its node of the trainer.
    let mut order = vec![0_usize];
    let mut at = 0;
    while let Some(&from) = order.get(at) {
        let node = grown.nodes.get(from).ok_or("a child that is not there")?;
        let place = u16::try_from(at).map_err(|_| "more than 65535 nodes")?;
        let children = node.true_child.zip(node.false_child).zip(node.split_value);
        nodes.push(match children {
            Some(((left, right), threshold)) => {
                let left_at = u16::try_from(order.len()).map_err(|_| "more than 65535 nodes")?;
                order.extend([left, right]);
                if order.len() > grown.nodes.len() {
                    return Err("a node with two parents");
                }
                let feature = asked.get(node.split_feature).ok_or("unknown feature")?;
                Node {
                    threshold: rounded_down(threshold),
                    left: left_at,
                    feature: u8::try_from(*feature).map_err(|_| "unknown feature")?,
                    flags: 0,
                }
            }
            None => {
                let class = grown.classes.get(node.output).ok_or("unknown class")?;
                Node::leaf(place, u8::try_from(*class).map_err(|_| "unknown class")?)
            }
        });
        at += 1;
    }
    Ok(nodes)
}

/// The greatest `f32` not above a threshold: `x ≤ t` keeps its answer for every `x` of `f32`.
fn rounded_down(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) > threshold {
        near.next_down()
    } else {
        near
    }
}

/// Fills the nodes with the class shares of all training rows.
fn fill(nodes: Vec<Node>, weighted: &Weighted<'_>) -> Result<Tree, &'static str> {
    let classes = weighted.classes;
    let sums = weighted.reaching(&nodes);
    let mut attack = Vec::with_capacity(nodes.len());
    let mut leaf_classes = Vec::new();
    for (node, sums) in nodes.iter().zip(sums.chunks_exact(classes)) {
        let all: f64 = sums.iter().sum();
        #[expect(clippy::cast_sign_loss, reason = "clamped to the range of the type")]
        // Rounded down, so that the shares never sum to more than one.
        let share = |sum: &f64| {
            let units = if all > 0.0 {
                sum / all * f64::from(SHARE_ONE)
            } else {
                0.0
            };
            units.clamp(0.0, f64::from(SHARE_ONE)) as u16
        };
        let shares: Vec<u16> = sums[1..].iter().map(share).collect();
        attack.push(shares.iter().fold(0, |sum: u16, s| sum.saturating_add(*s)));
        if node.is_leaf() {
            leaf_classes.extend(shares);
        }
    }
    Tree::new(nodes, attack, leaf_classes, classes)
}
