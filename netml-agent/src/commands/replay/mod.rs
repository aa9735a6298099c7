//! `replay`: capture files through the very code that live packets take, from decode onward.
//!
//! To NDJSON the times are the files' own. To a collector they are shifted so that the first packet
//! of each file is now; with `--speed 1x` (the default there) packets come at their own pace, and a
//! silence in which every flow ends anyway is cut short. With `--speed max` the times of a long
//! capture run ahead of the clock.
//!
//! Files are played in the order they are named, one after the other and each with an engine of
//! its own: they are not merged by time, and flows do not go on from one to the next.

use std::path::PathBuf;

use anyhow::bail;

use super::identity::SourceArg;
use super::{Misuse, ModelArgs, ReadingArgs};

mod books;
mod collector;
mod ndjson;
mod player;
mod progress;

pub use books::FileBooks;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Capture files (pcap or pcapng, plain, gzip or zstd); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write one JSON object per ended flow to standard output (the default)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// Tell a collector instead
    #[arg(long, value_name = "URL", conflicts_with = "output")]
    pub collector: Option<String>,
    /// File that `enroll` made, for a collector on another host
    #[arg(long, value_name = "FILE", requires = "collector")]
    pub identity: Option<PathBuf>,
    /// Pace: 1x is that of the capture (default with --collector), max is without pauses
    #[arg(long, value_enum, value_name = "SPEED")]
    pub speed: Option<Speed>,
    /// Begin anew after the last file, until stopped
    #[arg(long = "loop", requires = "collector")]
    pub repeat: bool,
    /// Name of this sensor; default: the host's
    #[arg(long, value_name = "NAME", requires = "collector")]
    pub sensor: Option<String>,
    /// Which model judges.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What a packet inside another is.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// What the packets are, for the project's own tools.
    #[arg(long, value_enum, default_value = "replay", hide = true)]
    pub source: SourceArg,
}

/// Pace of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Speed {
    /// That of the capture
    #[value(name = "1x")]
    Original,
    /// As fast as it goes
    Max,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// One JSON object a line.
    Ndjson,
}

/// Runs the command.
///
/// # Errors
/// Where the model cannot be used, a file cannot be read to its end, nothing in it can be
/// analysed, records could not be delivered, or the books do not balance.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let stdin_count = args.files.iter().filter(|file| is_stdin(file)).count();
    if stdin_count > 1 || (stdin_count > 0 && args.repeat) {
        bail!(Misuse("`-` can be read once only".into()));
    }
    match &args.collector {
        Some(url) => collector::run(args, url),
        None => {
            let model = args.model.load()?;
            let speed = args.speed.unwrap_or(Speed::Max);
            ndjson::run(&args.files, model, speed, args.reading.reading())
        }
    }
}

fn is_stdin(file: &std::path::Path) -> bool {
    file.as_os_str() == "-"
}
