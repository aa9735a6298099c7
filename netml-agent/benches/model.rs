//! Rows per second through the embedded forest: in batches as the engine judges them, one at a
//! time, and explained.
//!
//! The clock is the processor time of the thread. Run: `cargo xtask bench model`.

mod clock;

use std::hint::black_box;

use netml_agent::flow::FEATURES;
use netml_agent::model::{Judgement, Leaves, Model};

use clock::processor_s;

const ROWS: usize = 64 * 1024;
/// Rows the engine judges at once at most.
const BATCH: usize = 64;
const ROUNDS: usize = 7;

/// A stage's name and what it does with the rows.
type Stage = (&'static str, fn(&Model, &[[f32; FEATURES]]));

fn main() {
    let Ok(model) = netml_agent::model::embedded() else {
        println!("no embedded model");
        return;
    };
    let rows = rows();
    let stages: [Stage; 3] = [
        ("64 rows at once", |model, rows| judge(model, rows, BATCH)),
        ("one row at a time", |model, rows| judge(model, rows, 1)),
        ("explained, 1 in 64", |model, rows| {
            for row in rows.iter().step_by(64) {
                black_box(model.explain(black_box(row)));
            }
        }),
    ];
    let mut seconds = vec![Vec::with_capacity(ROUNDS); stages.len()];
    for _ in 0..ROUNDS {
        for ((_, stage), seconds) in stages.iter().zip(&mut seconds) {
            let start = processor_s();
            stage(&model, &rows);
            seconds.push(processor_s() - start);
        }
    }
    println!("input: {ROWS} rows, model {}; {ROUNDS} rounds", model.id());
    for ((name, _), seconds) in stages.iter().zip(&mut seconds) {
        seconds.sort_by(f64::total_cmp);
        let count = if name.starts_with("explained") {
            ROWS / 64
        } else {
            ROWS
        };
        let ns = |seconds: f64| seconds * 1e9 / count as f64;
        println!(
            "{name:20} median {:8.0} ns a row ({:.0} to {:.0})",
            ns(seconds[ROUNDS / 2]),
            ns(seconds[0]),
            ns(seconds[ROUNDS - 1])
        );
    }
}

fn judge(model: &Model, rows: &[[f32; FEATURES]], batch: usize) {
    let mut out = vec![Judgement::default(); batch];
    let mut leaves = Leaves::default();
    for rows in rows.chunks_exact(batch) {
        model.judge_in(black_box(rows), &mut out, &mut leaves);
        black_box(&out);
    }
}

/// Rows of numbers from all over the range of features, so that trees are walked to all leaves.
fn rows() -> Vec<[f32; FEATURES]> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let unit = (state >> 40) as f32 / (1_u64 << 24) as f32;
        // Shares, logarithms and counts in turn.
        [unit, unit * 12.0, (unit * 10.0).exp2()][(state >> 33) as usize % 3]
    };
    (0..ROWS).map(|_| std::array::from_fn(|_| next())).collect()
}
