//! Replay to standard output: one JSON object per ended flow, the books on standard error.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use netml_common::LossReason;

use super::FileBooks;
use crate::capture_file::{self, CaptureError, CaptureWarning, Item, Reader};
use crate::commands::output::FlowLine;
use crate::engine::{Engine, FlowReport, FlowState, JudgedPacket, Settings, Sink};
use crate::model::Model;

/// Records between two flushes of the engine.
const FLUSH_RECORDS: u64 = 256;

/// Replays the files one after another, each with an engine of its own.
pub(super) fn run(files: &[PathBuf], model: Option<Arc<Model>>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = 0;
    for file in files {
        match replay_file(file, model.clone(), &mut out) {
            Ok(()) => {}
            Err(error) if is_closed_pipe(&error) => return Err(error),
            Err(error) => {
                failed += 1;
                if files.len() == 1 {
                    return Err(error);
                }
                eprintln!("error: {error:#}");
            }
        }
    }
    out.flush().context("cannot write to standard output")?;
    if failed > 0 {
        bail!(
            "{failed} of {} captures could not be replayed in full",
            files.len()
        );
    }
    Ok(())
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn replay_file(file: &Path, model: Option<Arc<Model>>, out: &mut impl Write) -> anyhow::Result<()> {
    let mut reader = capture_file::open(file)?;
    let mut engine = Engine::new(Settings::default(), model.clone());
    let name = file.display().to_string();
    let mut sink = Lines {
        capture: &name,
        model: model.as_deref(),
        out,
        books: FileBooks::default(),
        failed: None,
    };
    let read = feed(&mut reader, &mut engine, &mut sink);
    engine.finish(&mut sink);
    if let Some(error) = sink.failed {
        return Err(error).context("cannot write to standard output");
    }
    let mut books = sink.books;
    out.flush().context("cannot write to standard output")?;
    books.capture = *reader.books();
    books.engine = engine.books();
    let id = model.as_ref().map_or("none", |model| model.id());
    eprint!("{name} (model {id})\n{}", books.summary());
    let warnings = reader.warnings();
    for warning in &warnings {
        eprintln!("  warning: {warning}");
    }
    read?;
    if !books.balanced() {
        bail!("{name}: the books do not balance, see above; this is a fault of netml-agent");
    }
    let unknown_link = warnings
        .iter()
        .find(|warning| matches!(warning, CaptureWarning::UnknownLinkType { .. }));
    if let Some(warning) = unknown_link.filter(|_| books.capture.records == 0) {
        bail!("{name}: {warning}");
    }
    Ok(())
}

/// Feeds a file to the engine.
fn feed<S: Sink>(
    reader: &mut Reader,
    engine: &mut Engine,
    sink: &mut S,
) -> Result<(), CaptureError> {
    let mut since_flush = 0;
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Packet(record) => {
                engine.packet(&record, sink);
                since_flush += 1;
                if since_flush == FLUSH_RECORDS {
                    engine.flush(sink);
                    since_flush = 0;
                }
            }
            Item::Lost(LossReason::CaptureRefused, _) => engine.lost(1),
            Item::Lost(_, _) => {}
        }
    }
    Ok(())
}

/// Writes ended flows and counts.
struct Lines<'a, W> {
    capture: &'a str,
    model: Option<&'a Model>,
    out: &'a mut W,
    books: FileBooks,
    failed: Option<io::Error>,
}

impl<W: Write> Sink for Lines<'_, W> {
    fn flow(&mut self, report: &FlowReport) {
        if !matches!(report.state, FlowState::End(_)) {
            return;
        }
        self.books.flow_ended(
            report.fwd_packets + report.rev_packets,
            report.verdict.verdict,
        );
        if self.failed.is_none() {
            let line = FlowLine::new(self.capture, report, self.model);
            let written = serde_json::to_writer(&mut *self.out, &line)
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n"));
            self.failed = written.err();
        }
    }

    fn packet(&mut self, _packet: &JudgedPacket) {
        self.books.packets_judged += 1;
    }
}
