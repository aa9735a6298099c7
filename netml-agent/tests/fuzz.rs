//! Any bytes through the packet walk, the capture reader and the record decoder.
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
use netml_common::{Link, PACKET_RECORD_BYTES, PacketRecord, walk};

/// Executions of each target in an ordinary test run.
const EXECUTIONS: u64 = 100_000;
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
