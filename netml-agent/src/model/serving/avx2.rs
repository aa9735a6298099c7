//! The walk with vectors of 32 bytes.
//!
//! The only `unsafe` of the model: loads from references to arrays of the size of a vector, and the
//! call of functions compiled for AVX2 once the processor is known to have it.
#![expect(
    unsafe_code,
    reason = "vector loads, and code for processors with AVX2"
)]

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_LT_OQ, _mm_loadu_si128, _mm256_and_si256, _mm256_blendv_epi8,
    _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_cmp_ps, _mm256_cmpgt_epi8,
    _mm256_inserti128_si256, _mm256_load_si256, _mm256_loadu_ps, _mm256_movemask_epi8,
    _mm256_movemask_ps, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_ps, _mm256_shuffle_epi8,
    _mm256_slli_epi16, _mm256_store_si256, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};

use super::together::{Bytes, LEAVES_MAX, ROWS, Step, VALUES, VECTORS};
use super::{
    Abreast, BLOCK_EXITS, BLOCK_SPLITS, Block, EXITS, Going, Group, LANES, LEVELS, Ladder, Rank,
    SLOTS_MAX, Scratch, Slots, Splits, Together,
};
use crate::flow::FEATURES;
use crate::model::forest::Tree;

/// Blocks that are asked together.
const ABREAST: usize = 4;

/// Walks one row; false where the processor has no AVX2.
pub(super) fn walk(splits: &Splits, row: &[f32; FEATURES], scratch: &mut Scratch) -> bool {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("popcnt") {
        return false;
    }
    let walk = match splits.slots.len() {
        0..=32 => walk_in::<2>,
        33..=64 => walk_in::<4>,
        65..=128 => walk_in::<8>,
        _ => walk_in::<16>,
    };
    // SAFETY: the processor has what the function is compiled for.
    unsafe { walk(splits, row, scratch) };
    true
}

/// Walks many rows; false where the processor has no AVX2.
pub(super) fn walk_together(
    splits: &Splits,
    trees: &[Tree],
    rows: &[[f32; FEATURES]],
    scratch: &mut Together,
) -> bool {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("popcnt") {
        return false;
    }
    // SAFETY: the processor has what the function is compiled for.
    unsafe { walk_together_in(splits, trees, rows, scratch) };
    true
}

/// Ranks of all rows, then tree by tree the leaves.
#[target_feature(enable = "avx2,popcnt")]
fn walk_together_in(
    splits: &Splits,
    trees: &[Tree],
    rows: &[[f32; FEATURES]],
    scratch: &mut Together,
) {
    let slots = splits.slots.len().min(SLOTS_MAX);
    let mut of_row = [Rank(0); SLOTS_MAX];
    for (at, row) in rows.iter().enumerate().take(ROWS) {
        rank(&splits.slots, row, &mut of_row);
        for (ranks, rank) in scratch.ranks[..slots].iter_mut().zip(&of_row) {
            ranks[at / LANES].0[at % LANES] = *rank;
        }
    }
    let reached = scratch.reached.iter_mut();
    for ((reached, steps), tree) in reached.zip(&splits.steps).zip(trees) {
        match steps {
            Some(steps) => {
                let leaves = leaves_of(steps, &scratch.ranks, &mut scratch.values);
                for (vector, leaves) in leaves.iter().enumerate() {
                    for (lane, leaf) in leaves.0.iter().enumerate() {
                        reached[vector * LANES + lane] = u16::from(*leaf);
                    }
                }
            }
            None => {
                for (reached, row) in reached.iter_mut().zip(rows) {
                    *reached = tree.leaf_rank[tree.leaf(row)];
                }
            }
        }
    }
}

/// Numbers of the leaves of one tree that rows with these ranks reach.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn leaves_of(
    steps: &[Step],
    ranks: &[Bytes<Rank>; SLOTS_MAX],
    values: &mut [Bytes<u8>; VALUES],
) -> Bytes<u8> {
    // Of a tree that is one leaf, its number.
    let mut chosen = [_mm256_set1_epi8(0); VECTORS];
    for (at, step) in steps.iter().enumerate() {
        let left = &values[usize::from(step.left) % VALUES];
        let right = &values[usize::from(step.right) % VALUES];
        let ranks = &ranks[usize::from(step.slot)];
        let split = _mm256_set1_epi8(step.rank.0);
        for vector in 0..VECTORS {
            let goes_right = _mm256_cmpgt_epi8(load(&ranks[vector]), split);
            chosen[vector] =
                _mm256_blendv_epi8(load(&left[vector]), load(&right[vector]), goes_right);
        }
        let into = &mut values[(LEAVES_MAX + at) % VALUES];
        for (into, chosen) in into.iter_mut().zip(chosen) {
            store(into, chosen);
        }
    }
    let mut leaves = [Abreast([0; LANES]); VECTORS];
    for (into, chosen) in leaves.iter_mut().zip(chosen) {
        store(into, chosen);
    }
    leaves
}

/// `TABLES` pieces of 16 slots hold all there are.
#[target_feature(enable = "avx2,popcnt")]
fn walk_in<const TABLES: usize>(splits: &Splits, row: &[f32; FEATURES], scratch: &mut Scratch) {
    rank(&splits.slots, row, &mut scratch.ranks);
    let tables = tables::<TABLES>(&scratch.ranks);
    let mut going = Going::new(&mut scratch.reached, &mut scratch.active);
    for group in &splits.groups {
        let places = places(group, &tables);
        for (exits, place) in group.exits.iter().zip(places.0) {
            going.note(exits[usize::from(place) % EXITS]);
        }
    }
    while let count @ 1.. = going.waiting() {
        let four = std::array::from_fn(|at| going.block(at.min(count - 1)));
        let next = ask(&splits.blocks, four, &tables);
        if count >= ABREAST {
            going.asked += ABREAST;
            for next in next {
                going.note(next);
            }
        } else {
            going.asked += count;
            for next in &next[..count] {
                going.note(*next);
            }
        }
    }
}

/// [`Slots::rank`].
#[target_feature(enable = "avx2,popcnt")]
fn rank(slots: &Slots, row: &[f32; FEATURES], ranks: &mut [Rank; SLOTS_MAX]) {
    let (few, rest) = ranks.split_at_mut(slots.few.len());
    let (some, many) = rest.split_at_mut(slots.some.len());
    for (rank, slot) in few.iter_mut().zip(&slots.few) {
        let value = _mm256_set1_ps(row[usize::from(slot.feature)]);
        *rank = Rank::new(below8(&slot.thresholds, value));
    }
    for (rank, slot) in some.iter_mut().zip(&slots.some) {
        let value = _mm256_set1_ps(row[usize::from(slot.feature)]);
        let Ladder { last, rungs } = &slot.thresholds;
        let rung = below8(last, value) % 8;
        *rank = Rank::new(8 * rung + below8(&rungs[rung], value));
    }
    for (rank, slot) in many.iter_mut().zip(&slots.many) {
        let value = _mm256_set1_ps(row[usize::from(slot.feature)]);
        let Ladder { last, rungs } = &slot.thresholds;
        let rung = below16(last, value) % 16;
        *rank = Rank::new(16 * rung + below16(&rungs[rung], value));
    }
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn below8(thresholds: &[f32; 8], value: __m256) -> usize {
    // SAFETY: the array has the 32 bytes that are read; no alignment is asked.
    let thresholds = unsafe { _mm256_loadu_ps(thresholds.as_ptr()) };
    let below = _mm256_cmp_ps::<_CMP_LT_OQ>(thresholds, value);
    _mm256_movemask_ps(below).count_ones() as usize
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn below16(thresholds: &[f32; 16], value: __m256) -> usize {
    let (halves, _) = thresholds.as_chunks::<8>();
    halves.iter().map(|half| below8(half, value)).sum()
}

/// The ranks, 16 to a vector, in both halves of it.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn tables<const TABLES: usize>(ranks: &[Rank; SLOTS_MAX]) -> [__m256i; TABLES] {
    let mut tables = [_mm256_set1_epi8(0); TABLES];
    let (pieces, _) = ranks.as_chunks::<16>();
    for (table, piece) in tables.iter_mut().zip(pieces) {
        // SAFETY: a rank is one byte: the array has the 16 bytes that are read.
        let piece = unsafe { _mm_loadu_si128(piece.as_ptr().cast()) };
        *table = _mm256_broadcastsi128_si256(piece);
    }
    tables
}

/// The ranks of 32 slots: the lower four bits of a slot's number choose within each table, the
/// upper ones between tables.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn look_up<const TABLES: usize>(tables: &[__m256i; TABLES], slots: __m256i) -> __m256i {
    // A set upper bit would choose 0.
    let within = if TABLES > 8 {
        _mm256_and_si256(slots, _mm256_set1_epi8(0x0f))
    } else {
        slots
    };
    let mut found = *tables;
    for found in &mut found {
        *found = _mm256_shuffle_epi8(*found, within);
    }
    // Bits 4 to 7, each moved to the top of its byte, where blending looks.
    let upper = [
        _mm256_slli_epi16::<3>(slots),
        _mm256_slli_epi16::<2>(slots),
        _mm256_slli_epi16::<1>(slots),
        slots,
    ];
    let mut width = TABLES;
    for bit in upper {
        if width > 1 {
            width /= 2;
            for at in 0..width {
                found[at] = _mm256_blendv_epi8(found[2 * at], found[2 * at + 1], bit);
            }
        }
    }
    found[0]
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn load<T>(lanes: &Abreast<T>) -> __m256i {
    const { assert!(size_of::<Abreast<T>>() == 32 && align_of::<Abreast<T>>() == 32) };
    // SAFETY: the value has the 32 bytes that are read, and their alignment.
    unsafe { _mm256_load_si256(std::ptr::from_ref(lanes).cast()) }
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn store(into: &mut Abreast<u8>, vector: __m256i) {
    // SAFETY: the value has the 32 bytes that are written, and their alignment.
    unsafe { _mm256_store_si256(std::ptr::from_mut(into).cast(), vector) };
}

/// Of the splits of one level the one each tree is at, by its answers so far, from the oldest on:
/// only the last step waits for the newest answer.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn chosen<const COUNT: usize, T>(splits: &[Abreast<T>], answers: &[__m256i; LEVELS]) -> __m256i {
    let mut left = [_mm256_set1_epi8(0); COUNT];
    for (left, split) in left.iter_mut().zip(splits) {
        *left = load(split);
    }
    let mut width = COUNT;
    for answer in answers {
        if width > 1 {
            width /= 2;
            for at in 0..width {
                left[at] = _mm256_blendv_epi8(left[2 * at], left[2 * at + 1], *answer);
            }
        }
    }
    left[0]
}

/// Where the trees of a group are below the upper levels.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn places<const TABLES: usize>(group: &Group, tables: &[__m256i; TABLES]) -> Abreast<u8> {
    let mut answers = [_mm256_set1_epi8(0); LEVELS];
    let mut places = _mm256_set1_epi8(0);
    for level in 0..LEVELS {
        let from = (1 << level) - 1;
        let (slots, ranks) = (&group.slots[from..], &group.ranks[from..]);
        let (slots, ranks) = match level {
            0 => (
                chosen::<1, _>(slots, &answers),
                chosen::<1, _>(ranks, &answers),
            ),
            1 => (
                chosen::<2, _>(slots, &answers),
                chosen::<2, _>(ranks, &answers),
            ),
            2 => (
                chosen::<4, _>(slots, &answers),
                chosen::<4, _>(ranks, &answers),
            ),
            3 => (
                chosen::<8, _>(slots, &answers),
                chosen::<8, _>(ranks, &answers),
            ),
            _ => (
                chosen::<16, _>(slots, &answers),
                chosen::<16, _>(ranks, &answers),
            ),
        };
        answers[level] = _mm256_cmpgt_epi8(look_up(tables, slots), ranks);
        let bit = _mm256_set1_epi8(1 << level);
        places = _mm256_or_si256(places, _mm256_and_si256(answers[level], bit));
    }
    let mut out = Abreast([0; LANES]);
    store(&mut out, places);
    out
}

/// Where blocks lead.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn ask<const TABLES: usize>(
    blocks: &[Block],
    which: [u32; ABREAST],
    tables: &[__m256i; TABLES],
) -> [u32; ABREAST] {
    let blocks = which.map(|block| &blocks[block as usize]);
    let head = |at: usize| head(blocks[at]);
    let even = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(head(0)), head(2));
    let odd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(head(1)), head(3));
    let slots = _mm256_unpacklo_epi64(even, odd);
    let ranks = _mm256_unpackhi_epi64(even, odd);
    let right = _mm256_cmpgt_epi8(look_up(tables, slots), ranks);
    let answers = _mm256_movemask_epi8(right).cast_unsigned();
    std::array::from_fn(|at| {
        // The eighth bit is of no split.
        let answers = (answers >> (8 * at)) as usize % BLOCK_EXITS.len();
        let exit = usize::from(BLOCK_EXITS[answers]);
        blocks[at].exits[exit % (BLOCK_SPLITS + 1)]
    })
}

/// Slots and ranks of a block.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn head(block: &Block) -> __m128i {
    const { assert!(std::mem::offset_of!(Block, slots) == 0) };
    const { assert!(std::mem::offset_of!(Block, ranks) == BLOCK_SPLITS + 1) };
    // SAFETY: a block begins with 8 bytes of slots and 8 of ranks.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(block).cast()) }
}
