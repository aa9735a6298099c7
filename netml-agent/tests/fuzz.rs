//! Any bytes through the packet walk, the capture reader, the record decoder and the model loader.
//!
//! Inputs are mutations of the corpus, made by a seeded generator, so that a run repeats itself.
//! The corpus (`corpus/*.hex`, one input a line, `#` begins a comment) is replayed first and as it
//! is. A failing input is printed as such a line, to be added there with its mending.
//!
//! `cargo xtask fuzz --executions N --seed S` runs more of it than the tests do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "kernel/corpus.rs"]
mod corpus;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use corpus::{Random, hex, inputs};
use netml_agent::capture_file;
use netml_agent::flow::FEATURES;
use netml_agent::model::{
    Forest, Judgement, Leaves, Model, ModelParts, Node, SelfTest, Tree, embedded, encode,
};
use netml_common::{Link, PACKET_RECORD_BYTES, PacketRecord, walk};
use sha2::{Digest as _, Sha256};

/// Executions of each target in an ordinary test run.
const EXECUTIONS: u64 = 100_000;
/// The same of the model loader, which is given each input twice; 100,000 where `NETML_LONG` asks.
const MODEL_EXECUTIONS: u64 = 10_000;
/// Bytes a mutated input grows to at most.
const INPUT_BYTES_MAX: usize = 4_096;
/// Items taken of one capture: a few bytes of zstd can stand for millions of empty packets.
const ITEMS_MAX: u64 = 2_000;
/// Headers of any walk end within this.
const HEADER_BYTES_MAX: u32 = 131_072;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// Replays a target's corpus, then runs mutations of it.
fn fuzz(target: &str, execute: impl Fn(&[u8])) {
    let corpus = inputs(target);
    assert!(!corpus.is_empty(), "the corpus of {target} is empty");
    let run = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| execute(input))) {
            eprintln!("corpus/{target}.hex:\n{}", hex(input));
            std::panic::resume_unwind(panic);
        }
    };
    for input in &corpus {
        run(input);
    }
    let mut random = Random::new(setting("NETML_FUZZ_SEED", 1));
    let executions = setting("NETML_FUZZ_EXECUTIONS", EXECUTIONS);
    for _ in 0..executions {
        run(&random.mutation(&corpus, INPUT_BYTES_MAX));
    }
    println!("{target}: {} inputs, {executions} executions", corpus.len());
}

#[test]
fn the_walk_of_any_bytes_ends_and_needs_no_more_than_the_headers() {
    fuzz("walk", |input| {
        let frame_bytes = input.len() as u32;
        for link in [
            Link::Ethernet,
            Link::RawIp,
            Link::Network {
                offset: 16,
                ethertype: 0x0800,
            },
        ] {
            for frame_bytes in [frame_bytes, frame_bytes + 70_000] {
                let Ok(walked) = walk(input, frame_bytes, link) else {
                    continue;
                };
                assert!(walked.header_bytes <= HEADER_BYTES_MAX, "{walked:?}");
                assert!(
                    walked.payload_bytes <= frame_bytes.max(65_535),
                    "{walked:?}"
                );
                if let Some(headers) = input.get(..walked.header_bytes as usize) {
                    assert_eq!(walk(headers, frame_bytes, link), Ok(walked));
                }
            }
        }
    });
}

#[test]
fn any_bytes_as_a_capture_end_with_balanced_books() {
    fuzz("capture", |input| {
        let read = Box::new(Cursor::new(input.to_vec()));
        let Ok(mut reader) = capture_file::from_read("fuzz", read) else {
            return;
        };
        let mut items = 0;
        let failed = loop {
            match reader.next_item() {
                Ok(Some(_)) if items < ITEMS_MAX => items += 1,
                Ok(Some(_)) => return,
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert_eq!(reader.books().packets, items);
        assert!(reader.books().balanced());
        if failed {
            assert!(reader.next_item().unwrap().is_none(), "an error comes once");
        }
    });
}

#[test]
fn any_bytes_decode_as_a_record_and_back_or_are_refused() {
    fuzz("record", |input| {
        for bytes in [input, &input[..input.len().min(PACKET_RECORD_BYTES)]] {
            if let Ok(record) = PacketRecord::from_bytes(bytes) {
                assert_eq!(record.to_bytes().as_slice(), bytes);
                assert!(record.segments > 0);
            }
        }
    });
}

/// Small models: one split; many nodes of several classes; one with a self-test.
fn models() -> Vec<Vec<u8>> {
    let parts = embedded().unwrap().parts().clone();
    let with = |trees: Vec<Tree>, classes: usize, card: &str| ModelParts {
        forest: Forest::new(trees, classes).unwrap(),
        classes: parts.classes[..classes].to_vec(),
        calibration: parts.calibration[..2].to_vec(),
        false_alarms: parts.false_alarms[..3].to_vec(),
        card: card.into(),
        ..parts.clone()
    };
    let split = Node {
        threshold: 0.5,
        left: 1,
        feature: 3,
        flags: 0,
    };
    let nodes = vec![split, Node::leaf(1, 0), Node::leaf(2, 1)];
    let tree = Tree::new(nodes, vec![300, 100, 60_000], vec![100, 60_000], 2).unwrap();
    let tiny = with(vec![tree], 2, "{}");
    let some = with(
        parts.forest.trees()[..2].to_vec(),
        parts.classes.len(),
        "{\"a\": [1, 2]}",
    );
    let mut tested = tiny.clone();
    let model = Model::from_bytes(&encode(&tiny).unwrap()).unwrap();
    let rows = vec![[0.0; FEATURES], [1.0; FEATURES]];
    let mut out = [Judgement::default(); 2];
    model.judge(&rows, &mut out);
    let test = SelfTest {
        rows,
        scores: out.iter().map(|judged| judged.score).collect(),
        classes: out.iter().map(|judged| judged.class).collect(),
    };
    tested.card = serde_json::json!({"self_test": test.to_json()}).to_string();
    [tiny, some, tested]
        .iter()
        .map(|parts| encode(parts).unwrap())
        .collect()
}

/// Makes length and checksum fit again, so that what lies behind them is tried.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= 52 {
        let length = bytes.len() as u64;
        bytes[12..20].copy_from_slice(&length.to_le_bytes());
        let body = bytes.len() - 32;
        let sum = Sha256::digest(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum);
    }
    bytes
}

/// True where the bytes load; what loads must be whole, and serve.
fn loads(bytes: &[u8]) -> bool {
    let model = match Model::from_bytes(bytes) {
        Ok(model) => model,
        Err(error) => {
            let told = error.to_string();
            assert!(!told.is_empty() && !told.contains('\n'), "{told}");
            return false;
        }
    };
    let (body, sum) = bytes.split_at(bytes.len() - 32);
    assert_eq!(
        Sha256::digest(body).as_slice(),
        sum,
        "a wrong checksum is taken"
    );
    assert!(
        encode(model.parts()).unwrap() == bytes,
        "not all of the file is in the model"
    );
    for tree in model.parts().forest.trees() {
        // Every node reached once, from the root, and nothing outside.
        let mut reached = vec![0; tree.nodes.len()];
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            reached[at] += 1;
            let node = tree.nodes[at];
            if !node.is_leaf() {
                assert!(node.threshold.is_finite() && usize::from(node.feature) < FEATURES);
                open.extend([usize::from(node.left), usize::from(node.left) + 1]);
            }
            assert!(open.len() <= tree.nodes.len(), "a loop");
        }
        assert!(reached.iter().all(|&times| times == 1), "{reached:?}");
    }
    let rows = [[0.0; FEATURES], [1.0; FEATURES], [-1e30; FEATURES]];
    let mut out = [Judgement::default(); 3];
    model.judge_in(&rows, &mut out, &mut Leaves::default());
    for (row, judged) in rows.iter().zip(out) {
        assert!((0.0..=1.0).contains(&judged.score) && (0.0..=1.0).contains(&judged.probability));
        assert!(usize::from(judged.class) < model.classes().len());
        let explained = model.explain(row);
        let sum = explained.bias + explained.contributions.iter().sum::<f32>();
        assert!((sum - judged.score).abs() < 1e-4, "{sum} {}", judged.score);
    }
    true
}

#[test]
fn any_bytes_as_a_model_are_refused_or_are_one() {
    let corpus = models();
    assert!(corpus.iter().all(|bytes| loads(bytes)), "models load");
    let mut random = Random::new(setting("NETML_FUZZ_SEED", 1));
    let long = std::env::var_os("NETML_LONG").is_some();
    let executions = setting(
        "NETML_FUZZ_EXECUTIONS",
        if long { EXECUTIONS } else { MODEL_EXECUTIONS },
    );
    let mut taken = 0_u64;
    for execution in 0..executions {
        let model = &corpus[random.next() % corpus.len()];
        let input = if execution % 8 == 0 {
            // Anything at all behind the beginning of a model.
            let kept = [0, 8, 12, 20][random.next() % 4];
            let length = random.next() % 600;
            let any = (0..length).map(|_| random.next() as u8);
            model[..kept].iter().copied().chain(any).collect()
        } else {
            // Changes are mostly near the beginning: it is moved all over the file.
            let from = random.next() % model.len();
            let tail = random.mutation(&[model[from..].to_vec()], model.len() + 64);
            [&model[..from], &tail].concat()
        };
        let run = |bytes: &[u8]| {
            catch_unwind(AssertUnwindSafe(|| loads(bytes))).unwrap_or_else(|panic| {
                eprintln!("a model that fails:\n{}", hex(bytes));
                std::panic::resume_unwind(panic)
            })
        };
        let as_it_is = run(&input);
        assert!(!as_it_is || corpus.contains(&input), "a changed file loads");
        taken += u64::from(run(&resealed(input)));
    }
    println!("model: {executions} executions, of the resealed {taken} are models");
    assert!(
        taken > 0 && taken < executions / 2,
        "{taken} of {executions}"
    );
}
