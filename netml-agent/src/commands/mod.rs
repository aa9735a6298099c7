//! One module per subcommand: arguments, wiring, exit code.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use crate::capture_file::Reading;
use crate::capture_file::offload::MTU_BYTES;
use crate::model::Model;

pub mod capture;
#[cfg(feature = "train")]
pub mod cross_validate;
#[cfg(feature = "train")]
pub mod dataset;
pub mod diagnose;
pub mod doctor;
pub mod enroll;
#[cfg(feature = "train")]
pub mod evaluate;
pub mod events;
pub mod identity;
pub mod model;
pub mod output;
pub mod replay;
pub mod run;
#[cfg(feature = "train")]
pub mod search;
pub mod spool;
#[cfg(feature = "train")]
pub mod train;

/// The user asked for something that cannot be: exit code 2 instead of 1.
#[derive(Debug)]
pub struct Misuse(pub String);

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Which model judges.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ModelArgs {
    /// Model file instead of the one built in
    #[arg(long, value_name = "FILE", conflicts_with = "no_model")]
    pub model: Option<PathBuf>,
    /// Judge nothing: every verdict is NO_VERDICT
    #[arg(long)]
    pub no_model: bool,
}

impl ModelArgs {
    /// Loads and checks the model asked for.
    ///
    /// # Errors
    /// Where it cannot be read, is damaged, or was made for other features.
    pub fn load(&self) -> anyhow::Result<Option<Arc<Model>>> {
        if self.no_model {
            return Ok(None);
        }
        let model = match &self.model {
            Some(path) => {
                Model::load(path).with_context(|| format!("cannot use {}", path.display()))?
            }
            None => crate::model::embedded().context("cannot use the built-in model")?,
        };
        Ok(Some(Arc::new(model)))
    }
}

/// What a packet inside another is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct TunnelArgs {
    /// Packets inside tunnels: on, the flow is that of the packet inside; off, the tunnel's own
    #[arg(
        long,
        value_enum,
        value_name = "on|off",
        default_value = "on",
        hide_possible_values = true
    )]
    pub decapsulate: Switch,
}

impl TunnelArgs {
    /// True where the flow is that of the packet inside.
    #[must_use]
    pub fn decapsulate(self) -> bool {
        self.decapsulate == Switch::On
    }
}

/// How frames that no kernel program saw are taken.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ReadingArgs {
    /// Packets inside tunnels.
    #[command(flatten)]
    pub tunnels: TunnelArgs,
    /// Largest packet of the captured link in bytes, its link header left out; a longer frame counts
    /// as the packets it was cut into
    #[arg(
        long = "mtu",
        value_name = "BYTES",
        default_value_t = MTU_BYTES,
        value_parser = clap::value_parser!(u32).range(i64::from(MTU_BYTES_MIN)..)
    )]
    pub mtu_bytes: u32,
}

impl ReadingArgs {
    /// The same for the reader of captures.
    #[must_use]
    pub fn reading(self) -> Reading {
        Reading {
            decapsulate: self.tunnels.decapsulate(),
            mtu_bytes: self.mtu_bytes,
        }
    }
}

/// Least MTU of IPv4 (RFC 791 §3.2).
const MTU_BYTES_MIN: u32 = 68;

/// One or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// An error and its causes in one line. A cause that the text before it tells already is left out.
#[must_use]
pub fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}
