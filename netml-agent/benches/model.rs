//! Rows per second through forests, beside smartcore's own `predict` in the same run; load of a
//! model; and, asked for by `-- train`, training.
//!
//! Rows are those of the committed feature table. A forest of 50 trees of depth 10 is grown by
//! smartcore, judged by smartcore and by our arrays; every row must get the same class in vote
//! mode. Stages take turns, round by round, so that a slow moment of the machine hits all alike;
//! the clock is the processor time of the thread. Run: `cargo xtask bench model`; training:
//! `cargo bench --workspace --bench model -- train`.

mod clock;

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use netml_agent::flow::FEATURES;
use netml_agent::model::{
    Forest, Judgement, Leaves, Model, ModelParts, Node, SHARE_ONE, Tree, encode,
};
use netml_agent::train::forest;
use netml_agent::train::random::Random;
use netml_agent::train::table::Table;
use netml_agent::train::trainer::{self, TrainSettings};
use smartcore::ensemble::random_forest_classifier::{
    RandomForestClassifier, RandomForestClassifierParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use clock::processor_s;

type Row = [f32; FEATURES];
type Smartcore = RandomForestClassifier<f32, u32, DenseMatrix<f32>, Vec<u32>>;

/// A stage's name, the rows it judges, and how.
type Stage<'a> = (String, usize, Box<dyn Fn() + 'a>);

/// Rows judged in a round; smartcore, which is slower, gets the first of them.
const ROWS: usize = 64 * 1024;
const SMARTCORE_ROWS: usize = 8 * 1024;
/// Rows smartcore is fitted on: its time grows with the square of them.
const FIT_ROWS: usize = 4_000;
const TREES: u16 = 50;
const DEPTH: u16 = 10;
/// Rows the engine judges at once at most.
const BATCH: usize = 64;
const ROUNDS: usize = 9;
const LOADS: usize = 21;
const TRAINING_ROWS: usize = 200_000;

fn main() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/features.csv.gz");
    let table = Table::read(&path)?;
    if std::env::args().any(|argument| argument == "train") {
        return training(table);
    }
    let shipped = netml_agent::model::embedded()?;
    let rows = drawn(&table, ROWS, 1);
    let (grown, model) = fifty_by_ten(&table)?;
    let matrix = columns(&rows[..SMARTCORE_ROWS])?;
    let classes = grown.predict(&matrix)?;
    let mut leaves = Leaves::default();
    let ours = model.majority(&rows[..SMARTCORE_ROWS], &mut leaves);
    let differ = classes
        .iter()
        .zip(&ours)
        .filter(|(a, b)| **a != u32::from(**b));
    ensure!(
        differ.count() == 0,
        "the classes in vote mode differ from smartcore's"
    );
    let told: std::collections::BTreeSet<u8> = ours.iter().copied().collect();
    println!(
        "vote mode: {SMARTCORE_ROWS} rows, {} classes told, every row as smartcore's predict",
        told.len()
    );

    let depth = format!("{TREES} trees of depth {DEPTH}");
    let mut stages: Vec<Stage<'_>> = vec![
        (
            format!("smartcore's predict, {depth}"),
            SMARTCORE_ROWS,
            Box::new(|| {
                black_box(grown.predict(black_box(&matrix)).is_ok());
            }),
        ),
        (
            format!("{depth}, 64 rows at once"),
            ROWS,
            Box::new(|| judge(&model, &rows, BATCH)),
        ),
        (
            format!("{depth}, vote mode"),
            ROWS,
            Box::new(|| {
                let mut leaves = Leaves::default();
                for rows in rows.chunks(BATCH) {
                    black_box(model.majority(black_box(rows), &mut leaves));
                }
            }),
        ),
        (
            format!("{depth}, one row at a time"),
            ROWS,
            Box::new(|| judge(&model, &rows, 1)),
        ),
    ];
    let name = format!("shipped, {} trees", shipped.parts().forest.trees().len());
    for (what, batch) in [("64 rows at once", BATCH), ("one row at a time", 1)] {
        let (shipped, rows) = (&shipped, &rows);
        stages.push((
            format!("{name}, {what}"),
            ROWS,
            Box::new(move || judge(shipped, rows, batch)),
        ));
    }
    stages.push((
        format!("{name}, explained"),
        ROWS / 64,
        Box::new(|| {
            for row in rows.iter().step_by(64) {
                black_box(shipped.explain(black_box(row)));
            }
        }),
    ));
    let mut seconds = vec![Vec::with_capacity(ROUNDS); stages.len()];
    for _ in 0..ROUNDS {
        for ((_, _, stage), seconds) in stages.iter().zip(&mut seconds) {
            let start = processor_s();
            stage();
            seconds.push(processor_s() - start);
        }
    }
    println!("rows of the committed table, {ROUNDS} rounds, one thread, its processor time");
    let mut base = None;
    for ((name, count, _), seconds) in stages.iter().zip(&mut seconds) {
        seconds.sort_by(f64::total_cmp);
        let ns = |seconds: f64| seconds * 1e9 / *count as f64;
        let median = ns(seconds[ROUNDS / 2]);
        let base = *base.get_or_insert(median);
        println!(
            "{name:44} median {median:8.0} ns a row ({:.0} to {:.0}), {:6.2} M rows/s, {:5.1} times smartcore's",
            ns(seconds[0]),
            ns(seconds[ROUNDS - 1]),
            1e3 / median,
            base / median
        );
    }
    loading(&shipped)
}

/// Time from bytes to a checked model: the shipped one, and one of as many trees as a file may have.
fn loading(shipped: &Model) -> anyhow::Result<()> {
    let mut largest = shipped.parts().clone();
    // Other trees answer the rows of its self-test otherwise.
    largest.card = "{}".into();
    let trees = largest.forest.trees().iter().cycle().take(512).cloned();
    largest.forest = Forest::new(trees.collect(), largest.classes.len())
        .map_err(|what| anyhow::anyhow!("no forest: {what}"))?;
    for (name, parts) in [("shipped", shipped.parts()), ("512 trees", &largest)] {
        let bytes = encode(parts)?;
        let mut ms = Vec::with_capacity(LOADS);
        for _ in 0..LOADS {
            let start = processor_s();
            black_box(Model::from_bytes(black_box(&bytes))?);
            ms.push((processor_s() - start) * 1e3);
        }
        ms.sort_by(f64::total_cmp);
        println!(
            "load, {name}: {} bytes, median {:.2} ms ({:.2} to {:.2})",
            bytes.len(),
            ms[LOADS / 2],
            ms[0],
            ms[LOADS - 1]
        );
    }
    Ok(())
}

/// The whole of `train` on a table of 200,000 rows: the committed one's, and some of them again.
fn training(mut table: Table) -> anyhow::Result<()> {
    let have = table.rows.len();
    let flows = table.flows().len();
    for at in 0..TRAINING_ROWS.saturating_sub(have) {
        let mut row = table.rows[at % have].clone();
        // Flows of their own, kept apart from those they repeat.
        row.flow = row.flow.wrapping_add(1 << 31);
        table.rows.push(row);
    }
    println!(
        "training: {} rows, {FEATURES} features in the table, {} asked by trees, {flows} flows at first",
        table.rows.len(),
        forest::asked_features().len()
    );
    let start = Instant::now();
    let trained = trainer::train(&table, &TrainSettings::default())?;
    println!(
        "{:.1} s on {} cores, most memory {} MiB, model of {} bytes",
        start.elapsed().as_secs_f64(),
        std::thread::available_parallelism().map_or(1, usize::from),
        peak_mib()?,
        trained.bytes.len()
    );
    Ok(())
}

/// Most memory this process had.
fn peak_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmHWM")?.trim().parse::<u64>()? / 1024)
}

fn judge(model: &Model, rows: &[Row], batch: usize) {
    let mut out = vec![Judgement::default(); batch];
    let mut leaves = Leaves::default();
    for rows in rows.chunks_exact(batch) {
        model.judge_in(black_box(rows), &mut out, &mut leaves);
        black_box(&out);
    }
}

/// Rows of the table at random.
fn drawn(table: &Table, count: usize, seed: u64) -> Vec<Row> {
    let mut random = Random::new(seed, 0);
    let mut row = || table.rows[random.below(table.rows.len())].features;
    (0..count).map(|_| row()).collect()
}

fn columns(rows: &[Row]) -> anyhow::Result<DenseMatrix<f32>> {
    let values = (0..FEATURES).flat_map(|feature| rows.iter().map(move |row| row[feature]));
    Ok(DenseMatrix::new(
        rows.len(),
        FEATURES,
        values.collect(),
        true,
    )?)
}

/// A forest of smartcore's over all features, a class to every kind, and the same in our arrays.
fn fifty_by_ten(table: &Table) -> anyhow::Result<(Smartcore, Model)> {
    let mut random = Random::new(2, 0);
    let sample: Vec<_> = (0..FIT_ROWS)
        .map(|_| &table.rows[random.below(table.rows.len())])
        .collect();
    let kinds: std::collections::BTreeSet<u32> = sample.iter().map(|row| row.kind).collect();
    let kinds: Vec<u32> = kinds.into_iter().collect();
    let class = |kind: u32| kinds.iter().position(|of| *of == kind).unwrap_or(0) as u32;
    let rows: Vec<Row> = sample.iter().map(|row| row.features).collect();
    let y: Vec<u32> = sample.iter().map(|row| class(row.kind)).collect();
    let parameters = RandomForestClassifierParameters::default()
        .with_n_trees(TREES)
        .with_max_depth(DEPTH)
        .with_m(8)
        .with_seed(3);
    let grown = Smartcore::fit(&columns(&rows)?, &y, parameters)?;
    let told = serde_json::to_value(&grown)?;
    let trees = told["trees"].as_array().context("a forest without trees")?;
    let trees = trees
        .iter()
        .map(|tree| voting(imported(tree)?, kinds.len()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut classes = vec!["normal".to_string()];
    classes.extend((1..kinds.len()).map(|class| format!("class {class}")));
    let shipped = netml_agent::model::embedded()?;
    let parts = ModelParts {
        forest: Forest::new(trees, classes.len())
            .map_err(|what| anyhow::anyhow!("no forest: {what}"))?,
        classes,
        card: "{}".into(),
        ..shipped.parts().clone()
    };
    Ok((grown, Model::from_bytes(&encode(&parts)?)?))
}

/// A tree whose leaves have all of their share in the class they vote for.
fn voting(nodes: Vec<Node>, classes: usize) -> anyhow::Result<Tree> {
    let mut attack = Vec::with_capacity(nodes.len());
    let mut leaf_classes = Vec::new();
    for node in &nodes {
        let voted = usize::from(node.vote());
        let is_attack = node.is_leaf() && voted > 0;
        attack.push(if is_attack { SHARE_ONE } else { 0 });
        if node.is_leaf() {
            leaf_classes.extend((1..classes).map(|at| if at == voted { SHARE_ONE } else { 0 }));
        }
    }
    Tree::new(nodes, attack, leaf_classes, classes)
        .map_err(|what| anyhow::anyhow!("no tree: {what}"))
}

/// Nodes of a tree as smartcore tells it, siblings side by side and children after their parents.
fn imported(tree: &serde_json::Value) -> anyhow::Result<Vec<Node>> {
    let number = |value: &serde_json::Value, name: &str| -> anyhow::Result<usize> {
        let number = value[name].as_u64().with_context(|| format!("no {name}"))?;
        Ok(usize::try_from(number)?)
    };
    let mut order = vec![0];
    let mut nodes = Vec::new();
    while let Some(&from) = order.get(nodes.len()) {
        let node = &tree["nodes"][from];
        let place = u16::try_from(nodes.len())?;
        nodes.push(if node["true_child"].is_null() {
            let class = tree["classes"][number(node, "output")?].as_u64();
            Node::leaf(place, u8::try_from(class.context("no class")?)?)
        } else {
            let left = u16::try_from(order.len())?;
            order.extend([number(node, "true_child")?, number(node, "false_child")?]);
            let threshold = node["split_value"].as_f64().context("no split value")?;
            let near = threshold as f32;
            Node {
                // Rounded down, so that `x <= t` keeps its answer.
                threshold: if f64::from(near) > threshold {
                    near.next_down()
                } else {
                    near
                },
                left,
                feature: u8::try_from(number(node, "split_feature")?)?,
                flags: 0,
            }
        });
    }
    Ok(nodes)
}
