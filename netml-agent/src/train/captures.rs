//! Labelled captures through the engine: in parallel over files, with a fresh engine for each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netml_common::PacketRecord;

use super::labels::{Ends, LabelledCapture};
use crate::capture_file::{self, CaptureBooks, CaptureError, CaptureWarning, Item, Reading};
use crate::engine::{Books, Engine, FlowEnds, Settings, Sink};
use crate::flow::beside::Tunnel;
use crate::model::Model;

/// Packets between two flushes of the engine: verdicts lag by at most as many.
const FLUSH_PACKETS: u64 = 64;

/// Why a run over captures ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A capture that the labels name is not there.
    #[error("labels line {line}: there is no capture {}; check --captures", path.display())]
    Missing {
        /// Line in the labels file.
        line: u64,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A capture cannot be read.
    #[error("labels line {line}: {source}")]
    Capture {
        /// Line in the labels file.
        line: u64,
        /// The cause.
        source: CaptureError,
    },
    /// More rows than are held at once.
    #[error("more than {rows_max} evaluation points in all captures: judge fewer at a time")]
    TooLong {
        /// Rows that are held.
        rows_max: usize,
    },
    /// Nothing to judge.
    #[error(
        "no flow of the captures has a known label: check the addresses and ports in the labels"
    )]
    NoFlow,
}

/// What came of one capture.
#[derive(Debug)]
pub struct Outcome<S> {
    /// What the sink gathered.
    pub sink: S,
    /// Packets of the file by outcome.
    pub capture: CaptureBooks,
    /// The engine's books.
    pub engine: Books,
    /// What must be told beside the results.
    pub warnings: Vec<CaptureWarning>,
}

/// Runs every capture through an engine of its own and gives the outcomes in the order of the
/// labels, whatever the number of threads. Frames are taken as `reading` says.
///
/// # Errors
/// The [`RunError`] of the first capture in that order that cannot be read.
pub fn run<S: Sink + Send>(
    dir: &Path,
    captures: &[LabelledCapture],
    model: Option<&Arc<Model>>,
    reading: Reading,
    sink: impl Fn(usize) -> S + Sync,
) -> Result<Vec<Outcome<S>>, RunError> {
    for capture in captures {
        let path = dir.join(&capture.file);
        if !path.is_file() {
            let line = capture.line;
            return Err(RunError::Missing { line, path });
        }
    }
    parallel(captures.len(), |index| {
        let capture = &captures[index];
        run_one(&dir.join(&capture.file), model, reading, sink(index)).map_err(|source| {
            RunError::Capture {
                line: capture.line,
                source,
            }
        })
    })
    .into_iter()
    .collect()
}

fn run_one<S: Sink>(
    path: &Path,
    model: Option<&Arc<Model>>,
    reading: Reading,
    mut sink: S,
) -> Result<Outcome<S>, CaptureError> {
    let mut reader = capture_file::open(path)?.reading(reading);
    let mut engine = Engine::new(Settings::default(), model.cloned());
    let mut packets = 0;
    while let Some(item) = reader.next_item()? {
        if let Item::Packet(record) = item {
            engine.packet_with(&record, reader.extras(), &mut sink);
            packets += 1;
            if packets % FLUSH_PACKETS == 0 {
                engine.flush(&mut sink);
            }
        }
    }
    engine.flush(&mut sink);
    engine.finish(&mut sink);
    Ok(Outcome {
        sink,
        capture: *reader.books(),
        engine: engine.books(),
        warnings: reader.warnings(),
    })
}

/// Does `count` jobs on all cores; the results stand in the order of the jobs.
pub(super) fn parallel<T: Send>(count: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return done;
            }
            done.push((index, job(index)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let handles: Vec<_> = (1..threads.min(count))
            .map(|_| scope.spawn(worker))
            .collect();
        let mut done = worker();
        for handle in handles {
            match handle.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What the labelling rule looks at, of a flow.
#[must_use]
pub fn ends_of_flow(ends: &FlowEnds, tunnel: Option<&Tunnel>) -> Ends {
    Ends {
        addresses: outermost([ends.src, ends.dst], tunnel),
        ports: [ends.src_port, ends.dst_port],
        ip_protocol: ends.ip_protocol,
    }
}

/// The same of a packet.
#[must_use]
pub fn ends_of_packet(record: &PacketRecord, tunnel: Option<&Tunnel>) -> Ends {
    Ends {
        addresses: outermost([record.src, record.dst], tunnel),
        ports: [record.src_port, record.dst_port],
        ip_protocol: record.ip_protocol,
    }
}

/// Labels name the hosts that the capture shows outermost: of a tunnel its ends.
fn outermost(inner: [[u8; 16]; 2], tunnel: Option<&Tunnel>) -> [[u8; 16]; 2] {
    tunnel.map_or(inner, |tunnel| [tunnel.src, tunnel.dst])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_jobs() {
        assert_eq!(parallel(0, |i| i), Vec::<usize>::new());
        let squares: Vec<_> = (0..500).map(|i| i * i).collect();
        assert_eq!(parallel(500, |i| i * i), squares);
    }
}
