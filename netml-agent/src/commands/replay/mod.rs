//! `replay`: capture files through the very code that live packets take, from decode onward.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;

use super::{Misuse, ModelArgs};
use crate::model::Model;

mod books;
mod ndjson;

pub use books::FileBooks;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Capture files (pcap or pcapng, plain or gzip); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write one JSON object per ended flow to standard output (the default)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// Which model judges.
    #[command(flatten)]
    pub model: ModelArgs,
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
/// analysed, or the books do not balance.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let stdin_count = args.files.iter().filter(|file| is_stdin(file)).count();
    if stdin_count > 1 {
        bail!(Misuse("`-` can be given once only".into()));
    }
    let model: Option<Arc<Model>> = args.model.load()?;
    ndjson::run(&args.files, model)
}

fn is_stdin(file: &std::path::Path) -> bool {
    file.as_os_str() == "-"
}
