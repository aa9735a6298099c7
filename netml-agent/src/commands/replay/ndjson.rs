//! Replay to standard output: one JSON object per ended flow, the books on standard error.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::player::{Listener, Pacer, Played, Wait, play};
use super::{FileBooks, Speed};
use crate::capture_file::Reading;
use crate::commands::output::FlowLine;
use crate::engine::{FlowReport, FlowState, JudgedPacket, Sink};
use crate::model::Model;
use anyhow::{Context as _, bail};

/// Replays the files one after another, each with an engine of its own.
pub(super) fn run(
    files: &[PathBuf],
    model: Option<Arc<Model>>,
    speed: Speed,
    reading: Reading,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = 0;
    for file in files {
        match replay_file(file, model.clone(), speed, reading, &mut out) {
            Ok(()) => {}
            Err(error) if is_closed_pipe(&error) => return Err(error),
            Err(error) => {
                failed += 1;
                if files.len() == 1 {
                    return Err(error);
                }
                eprintln!("error: {}", crate::commands::in_one_line(&error));
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

fn replay_file(
    file: &Path,
    model: Option<Arc<Model>>,
    speed: Speed,
    reading: Reading,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let mut lines = Lines {
        capture: &name,
        interfaces: Vec::new(),
        model: model.as_deref(),
        out,
        books: FileBooks::default(),
        failed: None,
        pacer: Pacer::new(speed),
    };
    let played = play(file, model.clone(), reading, &mut lines);
    if let Some(error) = lines.failed.take() {
        return Err(error).context("cannot write to standard output");
    }
    let mut books = lines.books;
    out.flush().context("cannot write to standard output")?;
    let played = played?;
    books.capture = played.capture;
    books.engine = played.engine;
    conclude(&name, model.as_deref(), &books, played)
}

/// Prints a file's books and warnings, and tells whether it was replayed in full.
pub(super) fn conclude(
    name: &str,
    model: Option<&Model>,
    books: &FileBooks,
    played: Played,
) -> anyhow::Result<()> {
    let id = model.map_or("none", Model::id);
    eprint!("{name} (model {id})\n{}", books.summary());
    let nothing_read = books.capture.records == 0;
    for warning in &played.warnings {
        if nothing_read && warning.is_unknown_link_type() {
            bail!("{name}: {warning}");
        }
        eprintln!("  warning: {warning}");
    }
    if let Some(error) = played.error {
        return Err(error.into());
    }
    if !books.balanced() {
        bail!("{name}: the books do not balance, see above; this is a fault of netml-agent");
    }
    Ok(())
}

/// Writes ended flows and counts.
struct Lines<'a, W> {
    capture: &'a str,
    /// Their names, as the file tells them.
    interfaces: Vec<String>,
    model: Option<&'a Model>,
    out: &'a mut W,
    books: FileBooks,
    failed: Option<io::Error>,
    pacer: Pacer,
}

impl<W: Write> Listener for Lines<'_, W> {
    fn before_packet(&mut self, mono_ns: u64) -> Wait {
        if self.failed.is_some() {
            Wait::Stop
        } else {
            self.pacer.wait(mono_ns)
        }
    }

    fn interfaces(&mut self, names: &[String]) {
        self.interfaces = names.to_vec();
    }
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
            let line = FlowLine::new(self.capture, &self.interfaces, report, self.model);
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
