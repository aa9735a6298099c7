//! Tables derived from the trees at load, and the walk of one row through all of them; that of many
//! rows at once stands in [`together`].
//!
//! Per feature the thresholds of the whole forest stand in order, cut into slots of at most
//! [`SLOT_THRESHOLDS_MAX`]. A row becomes one byte per slot, its rank: how many of the slot's
//! thresholds are below its value. A split becomes a slot and the rank of its threshold, and
//! `value > threshold` is exactly `row's rank > split's rank`: a value that is no number has rank 0
//! and goes left.
//!
//! The first [`LEVELS`] levels stand tree beside tree, [`TREES_ABREAST`] to a group, so that one
//! instruction asks as many trees; below, three levels make a [`Block`] of one cache line. Where a
//! tree ends earlier, splits that send every row left fill the gap. Leaves have numbers over the
//! whole forest. All that is summed are integers, so that no order of trees changes a result: the
//! walk with vectors ([`avx2`]) and the plain one give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod together;

pub(super) use self::together::Walked;
use self::together::{Steps, Together};
use super::forest::{CLASSES_MAX, TREES_MAX, Tree};
use crate::flow::FEATURES;

/// Most thresholds of a slot: a rank is a byte.
const SLOT_THRESHOLDS_MAX: usize = 255;

/// Most slots. Forests that need more are walked node by node.
const SLOTS_MAX: usize = 256;

/// Levels that are walked tree beside tree.
const LEVELS: usize = 5;

/// Places below those levels.
const EXITS: usize = 1 << LEVELS;

/// Bytes of a vector.
const LANES: usize = 32;

/// Trees of a group.
const TREES_ABREAST: usize = LANES;

/// Splits of a block: three levels.
const BLOCK_SPLITS: usize = 7;

/// Bit of a reference that leads to a leaf; the others number the leaf or the block.
const LEAF: u32 = 1 << 31;

/// Classes that are summed together.
const SHARES: usize = 8;

/// Sums of shares, in pieces.
type ClassSums = [[u32; SHARES]; CLASSES_MAX / SHARES];

/// Classes there are votes for.
const VOTES: usize = CLASSES_MAX;

/// Number of the leaf a reference leads to.
fn leaf_of(reference: u32) -> usize {
    (reference & !LEAF) as usize
}

/// Ranks have their upper bit flipped, so that a signed comparison orders them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rank(i8);

impl Rank {
    /// Of a split that sends every row left.
    const LEFT: Self = Self(i8::MAX);

    fn new(count: usize) -> Self {
        debug_assert!(count <= SLOT_THRESHOLDS_MAX);
        Self(count as u8 as i8 ^ i8::MIN)
    }
}

/// Scratch space of walks, about 130 KiB: nothing is allocated while rows are judged.
#[derive(Default)]
pub struct Leaves {
    /// Of one row.
    alone: Box<Scratch>,
    /// Of many.
    together: Together,
}

#[repr(align(64))]
struct Scratch {
    /// The row's rank in each slot.
    ranks: [Rank; SLOTS_MAX],
    /// Numbers of the leaves reached, in no order.
    reached: [u32; TREES_MAX],
    /// Queue of references to the blocks that are still to be asked.
    active: [u32; TREES_MAX],
    /// How many leaves are reached.
    leaves: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            ranks: [Rank(0); SLOTS_MAX],
            reached: [0; TREES_MAX],
            active: [0; TREES_MAX],
            leaves: 0,
        }
    }
}

impl Leaves {
    /// References to the leaves the last row reached, one per tree, in no order.
    fn reached(&self) -> &[u32] {
        &self.alone.reached[..self.alone.leaves]
    }
}

/// Where the trees of one row go on: a queue of blocks and the leaves reached.
struct Going<'a> {
    reached: &'a mut [u32; TREES_MAX],
    /// A ring: a tree has one block in it at most.
    active: &'a mut [u32; TREES_MAX],
    leaves: usize,
    /// Blocks that were put into the queue.
    blocks: usize,
    /// Blocks that were taken out of it.
    asked: usize,
}

impl<'a> Going<'a> {
    fn new(reached: &'a mut [u32; TREES_MAX], active: &'a mut [u32; TREES_MAX]) -> Self {
        Self {
            reached,
            active,
            leaves: 0,
            blocks: 0,
            asked: 0,
        }
    }

    /// Notes where a tree goes on. Both places are written and one is counted: which is not to be
    /// foreseen, and a wrong guess would cost more.
    #[inline(always)]
    fn note(&mut self, next: u32) {
        self.reached[self.leaves % TREES_MAX] = next;
        self.active[self.blocks % TREES_MAX] = next;
        let leaf = (next / LEAF) as usize;
        self.leaves += leaf;
        self.blocks += 1 - leaf;
    }

    /// How many blocks are in the queue.
    #[inline(always)]
    fn waiting(&self) -> usize {
        self.blocks - self.asked
    }

    /// A block of the queue, from the oldest on.
    #[inline(always)]
    fn block(&self, at: usize) -> u32 {
        self.active[(self.asked + at) % TREES_MAX]
    }
}

/// Tables of one forest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Serving {
    leaves: LeafTable,
    /// None where the forest has more than [`SLOTS_MAX`] slots.
    splits: Option<Splits>,
}

/// What leaves say, by number: those of the first tree in the order of its nodes, then the next's.
#[derive(Clone, Debug, PartialEq)]
struct LeafTable {
    /// Number of the first leaf of each tree.
    first: Vec<u32>,
    /// Share of attack.
    attack: Vec<u16>,
    /// Class of the trainer's majority.
    votes: Vec<u8>,
    /// Shares of the attack classes, per leaf as many pieces as hold them all; 0 behind the last.
    shares: Vec<[u16; SHARES]>,
}

#[derive(Clone, Debug, PartialEq)]
struct Splits {
    slots: Slots,
    groups: Vec<Group>,
    blocks: Vec<Block>,
    /// By tree.
    steps: Vec<Steps>,
}

/// Thresholds, by size of the slot: slots are numbered through the three lists.
#[derive(Clone, Debug, PartialEq, Default)]
struct Slots {
    /// At most 8 thresholds.
    few: Vec<Slot<[f32; 8]>>,
    /// At most 63.
    some: Vec<Slot<Ladder<8>>>,
    /// At most 255.
    many: Vec<Slot<Ladder<16>>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Slot<T> {
    feature: u8,
    thresholds: T,
}

/// Thresholds in rising order, fewer than N², filled up with +∞, which no value exceeds: the last
/// rung is never wholly below one.
#[derive(Clone, Debug, PartialEq)]
#[repr(C, align(64))]
struct Ladder<const N: usize> {
    /// The last of each rung.
    last: [f32; N],
    rungs: [[f32; N]; N],
}

impl<const N: usize> Ladder<N> {
    fn new(thresholds: &[f32]) -> Self {
        debug_assert!(thresholds.len() < N * N);
        let mut ladder = Self {
            last: [f32::INFINITY; N],
            rungs: [[f32::INFINITY; N]; N],
        };
        for (rung, from) in ladder.rungs.iter_mut().zip(thresholds.chunks(N)) {
            rung[..from.len()].copy_from_slice(from);
        }
        for (last, rung) in ladder.last.iter_mut().zip(&ladder.rungs) {
            *last = rung[N - 1];
        }
        ladder
    }
}

/// One byte for each tree of a group, or for each of as many rows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(32))]
struct Abreast<T>([T; LANES]);

/// The upper levels of some trees. Bit k of a place is the answer at level k; the splits of level
/// k stand from 2^k − 1 on.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    slots: [Abreast<u8>; EXITS - 1],
    ranks: [Abreast<Rank>; EXITS - 1],
    /// Per tree where each place leads; as many as there are trees.
    exits: Vec<[u32; EXITS]>,
}

/// Three levels of one tree: the children of split i are 2i + 1 and 2i + 2, from 7 on exits.
#[derive(Clone, Debug, PartialEq)]
#[repr(C, align(64))]
struct Block {
    /// The last is unused.
    slots: [u8; BLOCK_SPLITS + 1],
    /// The last is unused.
    ranks: [Rank; BLOCK_SPLITS + 1],
    exits: [u32; BLOCK_SPLITS + 1],
}

const _: () = assert!(size_of::<Block>() == 64 && size_of::<Rank>() == 1);

/// Exit of a block by the answers of its splits, a bit each.
const BLOCK_EXITS: [u8; 1 << BLOCK_SPLITS] = {
    let mut exits = [0; 1 << BLOCK_SPLITS];
    let mut answers = 0;
    while answers < exits.len() {
        let mut at = 0;
        while at < BLOCK_SPLITS {
            at = 2 * at + 1 + ((answers >> at) & 1);
        }
        exits[answers] = (at - BLOCK_SPLITS) as u8;
        answers += 1;
    }
    exits
};

impl Serving {
    /// Of at most [`TREES_MAX`] checked trees with as many attack classes.
    pub(super) fn new(trees: &[Tree], attack_classes: usize) -> Self {
        let leaves = LeafTable::new(trees, attack_classes);
        let splits = Splits::new(trees, &leaves.first);
        Self { leaves, splits }
    }

    /// Walks one row through every tree and gives the sum of the attack shares; the leaves reached
    /// stay in the scratch space.
    pub(super) fn walk(&self, trees: &[Tree], row: &[f32; FEATURES], leaves: &mut Leaves) -> u32 {
        let scratch = &mut *leaves.alone;
        match &self.splits {
            Some(splits) => splits.walk(row, scratch),
            None => {
                let trees = trees.iter().zip(&self.leaves.first);
                for (reached, (tree, first)) in scratch.reached.iter_mut().zip(trees) {
                    *reached = first + u32::from(tree.leaf_rank[tree.leaf(row)]);
                }
            }
        }
        scratch.leaves = self.leaves.first.len();
        let attack = |leaf: &u32| u32::from(self.leaves.attack[leaf_of(*leaf)]);
        leaves.reached().iter().map(attack).sum()
    }

    /// Sums of the shares of the attack classes over the leaves of the last walk; those behind the
    /// last class are 0.
    pub(super) fn class_shares(&self, leaves: &Leaves) -> ClassSums {
        let mut sums = ClassSums::default();
        match self.leaves.shares.len() / self.leaves.attack.len() {
            1 => self.leaves.sum::<1>(leaves, &mut sums),
            2 => self.leaves.sum::<2>(leaves, &mut sums),
            3 => self.leaves.sum::<3>(leaves, &mut sums),
            _ => self.leaves.sum::<4>(leaves, &mut sums),
        }
        sums
    }

    /// How many leaves of the last walk vote for each class.
    pub(super) fn votes(&self, leaves: &Leaves) -> [u32; VOTES] {
        // Counted in four places by turns: a count would wait for the one before it to be stored.
        // None passes 128.
        let mut counts = [[0_u8; VOTES]; 4];
        let class = |leaf: u32| usize::from(self.leaves.votes[leaf_of(leaf)]) % VOTES;
        for four in leaves.reached().chunks(4) {
            for (counts, leaf) in counts.iter_mut().zip(four) {
                counts[class(*leaf)] += 1;
            }
        }
        std::array::from_fn(|class| counts.iter().map(|counts| u32::from(counts[class])).sum())
    }
}

impl LeafTable {
    fn new(trees: &[Tree], attack_classes: usize) -> Self {
        let pieces = attack_classes.div_ceil(SHARES);
        let mut table = Self {
            first: Vec::with_capacity(trees.len()),
            attack: Vec::new(),
            votes: Vec::new(),
            shares: Vec::new(),
        };
        for tree in trees {
            // Fewer than 512 times 65,536 leaves.
            table.first.push(table.attack.len() as u32);
            let leaves = tree.nodes.iter().zip(&tree.attack);
            for (leaf, attack) in leaves.filter(|(node, _)| node.is_leaf()) {
                table.attack.push(*attack);
                table.votes.push(leaf.vote());
            }
            for shares in tree.leaf_classes.chunks_exact(attack_classes) {
                let at = table.shares.len();
                table.shares.resize(at + pieces, [0; SHARES]);
                let into = table.shares[at..].as_flattened_mut();
                into[..attack_classes].copy_from_slice(shares);
            }
        }
        table
    }

    fn sum<const PIECES: usize>(&self, leaves: &Leaves, sums: &mut ClassSums) {
        let mut all = [[0; SHARES]; PIECES];
        let (shares, _) = self.shares.as_chunks::<PIECES>();
        for leaf in leaves.reached() {
            for (sums, shares) in all.iter_mut().zip(&shares[leaf_of(*leaf)]) {
                for (sum, share) in sums.iter_mut().zip(shares) {
                    *sum += u32::from(*share);
                }
            }
        }
        sums[..PIECES].copy_from_slice(&all);
    }
}

/// Finds the slot and the rank of a split.
struct Places {
    /// Per feature its thresholds in rising order, each once.
    thresholds: Vec<Vec<f32>>,
    /// Per feature its slots, each for [`SLOT_THRESHOLDS_MAX`] thresholds.
    slots: Vec<Vec<u8>>,
}

impl Places {
    fn of(&self, feature: u8, threshold: f32) -> (u8, Rank) {
        let thresholds = &self.thresholds[usize::from(feature)];
        let below = thresholds.partition_point(|other| *other < threshold);
        let slot = self.slots[usize::from(feature)][below / SLOT_THRESHOLDS_MAX];
        (slot, Rank::new(below % SLOT_THRESHOLDS_MAX))
    }
}

impl Slots {
    /// None where they would be too many.
    fn new(trees: &[Tree]) -> Option<(Self, Places)> {
        let mut thresholds = vec![Vec::new(); FEATURES];
        for node in trees.iter().flat_map(|tree| &tree.nodes) {
            if !node.is_leaf() {
                thresholds[usize::from(node.feature)].push(node.threshold);
            }
        }
        let mut cut = Vec::new();
        for (feature, thresholds) in thresholds.iter_mut().enumerate() {
            thresholds.sort_unstable_by(f32::total_cmp);
            // Equal numbers, so that one zero stands for both.
            thresholds.dedup();
            for piece in thresholds.chunks(SLOT_THRESHOLDS_MAX) {
                cut.push((feature as u8, piece.to_vec()));
            }
        }
        if cut.len() > SLOTS_MAX {
            return None;
        }
        // Small ones first; the pieces of a feature keep their order.
        cut.sort_by_key(|(feature, piece)| (size_class(piece.len()), *feature));
        let mut slots = Self::default();
        let mut places = vec![Vec::new(); FEATURES];
        let mut last_small = vec![None; FEATURES];
        for (number, (feature, piece)) in cut.iter().enumerate() {
            let feature = *feature;
            match size_class(piece.len()) {
                0 => {
                    let mut few = [f32::INFINITY; 8];
                    few[..piece.len()].copy_from_slice(piece);
                    let thresholds = few;
                    slots.few.push(Slot {
                        feature,
                        thresholds,
                    });
                }
                1 => {
                    let thresholds = Ladder::new(piece);
                    slots.some.push(Slot {
                        feature,
                        thresholds,
                    });
                }
                _ => {
                    let thresholds = Ladder::new(piece);
                    slots.many.push(Slot {
                        feature,
                        thresholds,
                    });
                }
            }
            // Only the last piece of a feature can be shorter than a full one, and it may stand
            // before them in the order of sizes.
            let number = number as u8;
            if piece.len() < SLOT_THRESHOLDS_MAX {
                last_small[usize::from(feature)] = Some(number);
            } else {
                places[usize::from(feature)].push(number);
            }
        }
        for (places, last) in places.iter_mut().zip(last_small) {
            places.extend(last);
        }
        let places = Places {
            thresholds,
            slots: places,
        };
        Some((slots, places))
    }

    /// The row's rank in every slot.
    fn rank(&self, row: &[f32; FEATURES], ranks: &mut [Rank; SLOTS_MAX]) {
        let few = self.few.iter().map(|slot| {
            let value = row[usize::from(slot.feature)];
            below(&slot.thresholds, value)
        });
        let some = self.some.iter().map(|slot| {
            let value = row[usize::from(slot.feature)];
            slot.thresholds.below(value)
        });
        let many = self.many.iter().map(|slot| {
            let value = row[usize::from(slot.feature)];
            slot.thresholds.below(value)
        });
        for (rank, count) in ranks.iter_mut().zip(few.chain(some).chain(many)) {
            *rank = Rank::new(count);
        }
    }

    fn len(&self) -> usize {
        self.few.len() + self.some.len() + self.many.len()
    }
}

/// Which list of [`Slots`] holds as many thresholds.
fn size_class(thresholds: usize) -> usize {
    match thresholds {
        0..=8 => 0,
        9..=63 => 1,
        _ => 2,
    }
}

/// How many thresholds are below a value.
fn below<const N: usize>(thresholds: &[f32; N], value: f32) -> usize {
    thresholds.iter().map(|t| usize::from(value > *t)).sum()
}

impl<const N: usize> Ladder<N> {
    fn below(&self, value: f32) -> usize {
        let rung = below(&self.last, value) % N;
        N * rung + below(&self.rungs[rung], value)
    }
}

impl Splits {
    fn new(trees: &[Tree], first_leaf: &[u32]) -> Option<Self> {
        let (slots, places) = Slots::new(trees)?;
        let mut blocks = Vec::new();
        let mut groups = Vec::with_capacity(trees.len().div_ceil(TREES_ABREAST));
        for (trees, first) in trees
            .chunks(TREES_ABREAST)
            .zip(first_leaf.chunks(TREES_ABREAST))
        {
            let mut group = Group {
                slots: [Abreast([0; TREES_ABREAST]); EXITS - 1],
                ranks: [Abreast([Rank::LEFT; TREES_ABREAST]); EXITS - 1],
                exits: vec![[0; EXITS]; trees.len()],
            };
            for (lane, (tree, first)) in trees.iter().zip(first).enumerate() {
                let mut source = Source {
                    tree,
                    first: *first,
                    places: &places,
                    blocks: &mut blocks,
                };
                group.fill(lane, &mut source, 0, 0, 0);
            }
            groups.push(group);
        }
        let steps = trees
            .iter()
            .map(|tree| together::steps(tree, &places))
            .collect();
        Some(Self {
            slots,
            groups,
            blocks,
            steps,
        })
    }

    fn walk(&self, row: &[f32; FEATURES], scratch: &mut Scratch) {
        #[cfg(target_arch = "x86_64")]
        if avx2::walk(self, row, scratch) {
            return;
        }
        self.walk_plainly(row, scratch);
    }

    /// False where the processor has no vectors for it.
    fn walk_together(
        &self,
        trees: &[Tree],
        rows: &[[f32; FEATURES]],
        together: &mut Together,
    ) -> bool {
        #[cfg(target_arch = "x86_64")]
        if avx2::walk_together(self, trees, rows, together) {
            return true;
        }
        false
    }

    /// The walk without vectors.
    fn walk_plainly(&self, row: &[f32; FEATURES], scratch: &mut Scratch) {
        self.slots.rank(row, &mut scratch.ranks);
        let ranks = &scratch.ranks;
        let mut going = Going::new(&mut scratch.reached, &mut scratch.active);
        for group in &self.groups {
            let mut places = [0; TREES_ABREAST];
            for level in 0..LEVELS {
                for (lane, place) in places.iter_mut().enumerate().take(group.exits.len()) {
                    let split = (1 << level) - 1 + *place;
                    let slot = usize::from(group.slots[split].0[lane]);
                    let right = ranks[slot].0 > group.ranks[split].0[lane].0;
                    *place |= usize::from(right) << level;
                }
            }
            for (exits, place) in group.exits.iter().zip(places) {
                going.note(exits[place]);
            }
        }
        while going.waiting() > 0 {
            let block = &self.blocks[going.block(0) as usize];
            going.asked += 1;
            let mut split = 0;
            while split < BLOCK_SPLITS {
                let rank = ranks[usize::from(block.slots[split])];
                split = 2 * split + 1 + usize::from(rank.0 > block.ranks[split].0);
            }
            going.note(block.exits[split - BLOCK_SPLITS]);
        }
    }
}

/// A tree on its way into the tables.
struct Source<'a> {
    tree: &'a Tree,
    first: u32,
    places: &'a Places,
    blocks: &'a mut Vec<Block>,
}

impl Source<'_> {
    /// Slot, rank and left child of a split; None for a leaf.
    fn split(&self, node: usize) -> Option<(u8, Rank, usize)> {
        let node = &self.tree.nodes[node];
        if node.is_leaf() {
            return None;
        }
        let (slot, rank) = self.places.of(node.feature, node.threshold);
        Some((slot, rank, usize::from(node.left)))
    }

    /// What leads to a node: the number of its leaf, or of a new block that begins with it.
    fn reference(&mut self, node: usize) -> u32 {
        if self.tree.nodes[node].is_leaf() {
            return LEAF | (self.first + u32::from(self.tree.leaf_rank[node]));
        }
        let number = self.blocks.len();
        self.blocks.push(Block {
            slots: [0; BLOCK_SPLITS + 1],
            ranks: [Rank::LEFT; BLOCK_SPLITS + 1],
            exits: [0; BLOCK_SPLITS + 1],
        });
        self.fill(number, node, 0);
        number as u32
    }

    /// Puts a node and what is below it to a place of a block. The depth of trees is bounded.
    fn fill(&mut self, block: usize, node: usize, place: usize) {
        if place >= BLOCK_SPLITS {
            let reference = self.reference(node);
            self.blocks[block].exits[place - BLOCK_SPLITS] = reference;
            return;
        }
        match self.split(node) {
            Some((slot, rank, left)) => {
                self.blocks[block].slots[place] = slot;
                self.blocks[block].ranks[place] = rank;
                self.fill(block, left, 2 * place + 1);
                self.fill(block, left + 1, 2 * place + 2);
            }
            None => self.fill(block, node, 2 * place + 1),
        }
    }
}

impl Group {
    /// Puts a node and what is below it to a place of a level.
    fn fill(
        &mut self,
        lane: usize,
        source: &mut Source<'_>,
        node: usize,
        level: usize,
        place: usize,
    ) {
        if level == LEVELS {
            self.exits[lane][place] = source.reference(node);
            return;
        }
        match source.split(node) {
            Some((slot, rank, left)) => {
                let split = (1 << level) - 1 + place;
                self.slots[split].0[lane] = slot;
                self.ranks[split].0[lane] = rank;
                self.fill(lane, source, left, level + 1, place);
                self.fill(lane, source, left + 1, level + 1, place | 1 << level);
            }
            None => self.fill(lane, source, node, level + 1, place),
        }
    }
}

#[cfg(test)]
mod tests;
