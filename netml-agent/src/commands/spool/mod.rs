//! `spool`: look at what a sensor keeps on its disk, check it, mend it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use netml_proto::v1;
use prost::Message as _;

use crate::spool::fs::Directory;
use crate::spool::inspect::{self, Mended, Report, What};
use crate::spool::segment_name;

mod record;

/// Arguments of `spool`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a spool.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Read everything: segments, streams, what is not acknowledged, damage by its place; exit code 1
    /// where something is damaged
    Check(Spooled),
    /// Print the records that can be read, one JSON object a line
    Dump(Spooled),
    /// Cut torn ends, set aside segments in which nothing can be read, and say what is lost
    Repair(Spooled),
}

/// A spool's directory.
#[derive(Debug, clap::Args)]
pub struct Spooled {
    /// Directory given to `run --spool`
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Runs the action.
///
/// # Errors
/// Where the spool cannot be read, is damaged (`check`), or is in use (`repair`).
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match &args.action {
        Action::Check(spooled) => {
            let directory = look(&spooled.directory)?;
            let report = inspect::look(&directory, |_, _| Ok(()))
                .with_context(|| cannot_read(&spooled.directory))?;
            tell(&mut out, &report)?;
            out.flush()?;
            if report.is_damaged() {
                bail!(
                    "{} is damaged, see above; the sensor steps over it, `netml-agent spool repair` \
                     mends what can be",
                    spooled.directory.display()
                );
            }
        }
        Action::Dump(spooled) => {
            let directory = look(&spooled.directory)?;
            let report = inspect::look(&directory, |number, batch| dump(&mut out, number, &batch))
                .with_context(|| cannot_read(&spooled.directory))?;
            out.flush()?;
            if report.is_damaged() {
                eprintln!("some of it is damaged and not shown; see `netml-agent spool check`");
            }
        }
        Action::Repair(spooled) => {
            Directory::look(&spooled.directory)?;
            let directory = Directory::lock(&spooled.directory)?;
            let report = inspect::look(&directory, |_, _| Ok(()))
                .with_context(|| cannot_read(&spooled.directory))?;
            let mended = inspect::repair(&directory, &report)
                .with_context(|| format!("cannot mend {}", spooled.directory.display()))?;
            tell_mended(&mut out, &report, &mended)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn look(path: &Path) -> anyhow::Result<Directory> {
    let (directory, is_held) = Directory::look(path)?;
    if is_held {
        eprintln!("a running sensor writes it: this is how it stood a moment ago");
    }
    Ok(directory)
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

fn tell(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let (mut bytes, mut records, mut unacked, mut damaged) = (0, 0, 0, 0);
    for segment in &report.segments {
        let held: u64 = segment.streams.values().map(|part| part.records).sum();
        writeln!(
            out,
            "{}: {} bytes, {} frames, {held} records",
            segment_name(segment.number),
            segment.bytes,
            segment.frames
        )?;
        for (stream_id, part) in &segment.streams {
            writeln!(
                out,
                "  stream {stream_id:016x}: {} to {}, {} records, {} not acknowledged",
                part.first_seq, part.last_seq, part.records, part.unacked
            )?;
            unacked += part.unacked;
        }
        for damage in &segment.damage {
            writeln!(
                out,
                "  byte {}, {} bytes: {}",
                damage.offset, damage.bytes, damage.what
            )?;
        }
        bytes += segment.bytes;
        records += held;
        damaged += u64::from(segment.is_damaged());
    }
    for noted in &report.streams {
        writeln!(
            out,
            "stream {:016x}: acknowledged up to {}, made up to {}{}",
            noted.stream_id,
            noted.acked,
            noted.made,
            if noted.is_open { ", not stopped" } else { "" }
        )?;
    }
    for (name, bytes) in &report.aside {
        writeln!(out, "set aside: {name}, {bytes} bytes")?;
    }
    writeln!(
        out,
        "{} segments, {bytes} bytes, {records} records, {unacked} not acknowledged, {damaged} damaged",
        report.segments.len()
    )
}

fn tell_mended(out: &mut impl Write, report: &Report, mended: &[Mended]) -> io::Result<()> {
    if mended.is_empty() {
        return writeln!(out, "nothing to mend");
    }
    for done in mended {
        match *done {
            Mended::Cut(number, offset, bytes) => writeln!(
                out,
                "{}: cut at byte {offset}, {bytes} bytes that could not be read are gone",
                segment_name(number)
            )?,
            Mended::SetAside(number, bytes) => writeln!(
                out,
                "{}: set aside, nothing in its {bytes} bytes could be read",
                segment_name(number)
            )?,
            Mended::Left(number) => writeln!(
                out,
                "{}: left as it is, the sensor steps over what is damaged",
                segment_name(number)
            )?,
        }
    }
    let damage = report.segments.iter().flat_map(|segment| &segment.damage);
    let known: u64 = damage
        .filter_map(|damage| match damage.what {
            What::Payload(records) => Some(u64::from(records)),
            _ => None,
        })
        .sum();
    writeln!(
        out,
        "lost: {known} records of batches whose payload is damaged, and what else was there; the \
         collector counts the numbers left out as a gap"
    )
}

fn dump(out: &mut impl Write, number: u64, batch: &v1::Batch) -> io::Result<()> {
    let payload = v1::Payload::decode(&batch.payload[..]).map_err(io::Error::other)?;
    for (seq, record) in (batch.first_seq..).zip(payload.records) {
        let mut line = record::json(&record);
        if let Some(object) = line.as_object_mut() {
            object.insert("segment".into(), segment_name(number).into());
            object.insert("stream".into(), format!("{:016x}", batch.stream_id).into());
            object.insert("seq".into(), seq.into());
        }
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
