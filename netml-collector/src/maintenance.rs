//! Commands on a data directory: check, compact, backup, restore, export.
//!
//! All but `compact` work beside a collector that runs on the directory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use netml_collector::export::{self, ExportError};
use netml_collector::record::SensorName;
use netml_collector::store::sqlite::SqliteStore;
use netml_collector::store::sqlite::check::{self, Depth};
use netml_collector::store::sqlite::copy::{self, Copied};
use netml_collector::store::{Filter, Range, Store as _};

use crate::certificates::Misuse;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A directory was checked and is not whole: the exit code says it, what is wrong was printed.
#[derive(Debug, thiserror::Error)]
#[error("{0} faults in {1}")]
struct Faults(usize, String);

/// Commands on a data directory.
#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Looks whether every file of a data directory or backup is whole; exit code 1 where one is not.
    Check {
        /// Leaves out whether indices and rows agree, which takes most of the time.
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        data: Data,
    },
    /// Makes the files of past days as small as they can be. The collector must not run.
    Compact(Data),
    /// Copies the data directory into a new one; the collector may run.
    Backup {
        /// The new directory, beside which a temporary one is made.
        #[arg(value_name = "DIR")]
        to: PathBuf,
        #[command(flatten)]
        data: Data,
    },
    /// Checks a backup and copies it into a data directory that is not there yet or empty.
    Restore {
        /// The backup.
        #[arg(value_name = "DIR")]
        from: PathBuf,
        #[command(flatten)]
        data: Data,
    },
    /// Writes packets, flows or events, newest first; the collector may run.
    Export(ExportArgs),
}

/// Where.
#[derive(Args)]
pub(crate) struct Data {
    /// Directory of the database.
    #[arg(long, default_value = "./netml-data")]
    data: PathBuf,
}

/// What, and where to.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// What is written.
    #[arg(value_enum)]
    table: Table,
    /// How it is written; without it as the name of the output ends, else CSV.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// File that is written, put in place once it is whole; without it standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only what was seen at or after this time (UTC): 2026-11-22, 2026-11-22T13:30:00Z or unix seconds.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only what was seen before this time, written likewise.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only of this sensor.
    #[arg(long, value_name = "SENSOR")]
    sensor: Option<String>,
    #[command(flatten)]
    data: Data,
}

#[derive(Clone, Copy, ValueEnum)]
enum Table {
    /// Packet samples
    Packets,
    /// Flows, by the times of their first and last packet
    Flows,
    /// Events
    Events,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// RFC 4180
    Csv,
    /// One JSON object a line
    Ndjson,
    /// By column, compressed
    Parquet,
}

/// Runs a command.
#[tokio::main]
pub(crate) async fn run(command: DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::Check { quick, data } => {
            let depth = if quick { Depth::Quick } else { Depth::Full };
            report(&data.data, depth).await
        }
        DataCommand::Compact(data) => {
            let compacted = copy::compact(&data.data).await?;
            list(&compacted)?;
            let won: u64 = compacted
                .iter()
                .map(|file| file.bytes_before.saturating_sub(file.bytes))
                .sum();
            say(&format!(
                "{} files compacted, {won} bytes won",
                compacted.len()
            ))
        }
        DataCommand::Backup { to, data } => {
            let copied = copy::backup(&data.data, &to).await?;
            list(&copied)?;
            total(&copied, &to)
        }
        DataCommand::Restore { from, data } => {
            let copied = copy::restore(&from, &data.data).await?;
            list(&copied)?;
            total(&copied, &data.data)
        }
        DataCommand::Export(arguments) => export_rows(&arguments).await,
    }
}

async fn report(directory: &Path, depth: Depth) -> anyhow::Result<()> {
    let report = check::check(directory, depth).await?;
    let mut faults = 0;
    for file in &report.files {
        let state = match (file.faults.as_slice(), file.notes.as_slice()) {
            ([], []) => "ok".to_owned(),
            ([], notes) => notes.join("; "),
            (found, _) => {
                faults += found.len();
                found.join("; ")
            }
        };
        say(&format!(
            "{:24} {:>14} bytes  {state}",
            file.name, file.bytes
        ))?;
    }
    if faults > 0 {
        return Err(Faults(faults, directory.display().to_string()).into());
    }
    Ok(())
}

fn list(copied: &[Copied]) -> anyhow::Result<()> {
    for file in copied {
        say(&format!(
            "{:24} {:>14} bytes, was {}",
            file.name, file.bytes, file.bytes_before
        ))?;
    }
    Ok(())
}

fn total(copied: &[Copied], to: &Path) -> anyhow::Result<()> {
    let bytes: u64 = copied.iter().map(|file| file.bytes).sum();
    say(&format!(
        "{} files, {bytes} bytes in {}",
        copied.len(),
        to.display()
    ))
}

async fn export_rows(arguments: &ExportArgs) -> anyhow::Result<()> {
    let filter = filter_of(arguments)?;
    let (table, kind) = (table_of(arguments.table), kind_of(arguments));
    let store = SqliteStore::open_read_only(&arguments.data.data).await?;
    let written = match &arguments.output {
        None => {
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout());
            let written = export::export(&store, table, kind, &filter, &mut out).await;
            written.context("cannot write to standard output")
        }
        Some(path) => to_file(&store, table, kind, &filter, path)
            .await
            .with_context(|| format!("cannot write {}", path.display())),
    };
    store.close().await;
    let rows = written?;
    tracing::info!(rows, "exported");
    Ok(())
}

/// Writes beside the file and puts it in place once it is whole.
async fn to_file(
    store: &SqliteStore,
    table: export::Table,
    kind: export::Kind,
    filter: &Filter,
    path: &Path,
) -> Result<u64, ExportError> {
    let mut partial = path.to_owned().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = async {
        let file = File::create(&partial)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let rows = export::export(store, table, kind, filter, &mut out).await?;
        let file = out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)?;
        Ok(rows)
    }
    .await;
    if written.is_err()
        && let Err(error) = std::fs::remove_file(&partial)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %partial.display(), %error, "an unfinished export cannot be removed");
    }
    written
}

fn filter_of(arguments: &ExportArgs) -> Result<Filter, Misuse> {
    let time = |option: &str, text: &Option<String>, default| match text {
        None => Ok(default),
        Some(text) => unix_s(text).ok_or_else(|| {
            Misuse(format!(
                "{option} takes a time like 2026-11-22, 2026-11-22T13:30:00Z or unix seconds"
            ))
        }),
    };
    let range = Range {
        from_unix_s: time("--from", &arguments.from, 0)?,
        to_unix_s: time("--to", &arguments.to, UNIX_S_MAX)?,
    };
    if range.from_unix_s >= range.to_unix_s {
        return Err(Misuse("--from must be before --to".to_owned()));
    }
    let sensor = match &arguments.sensor {
        None => None,
        Some(name) => Some(
            SensorName::parse(name)
                .ok_or_else(|| Misuse("--sensor is no sensor's name".to_owned()))?
                .as_str()
                .to_owned(),
        ),
    };
    let is_bounded = arguments.from.is_some() || arguments.to.is_some();
    Ok(Filter {
        seen: is_bounded.then_some(range),
        sensor,
        ..Filter::default()
    })
}

fn table_of(table: Table) -> export::Table {
    match table {
        Table::Packets => export::Table::Packets,
        Table::Flows => export::Table::Flows,
        Table::Events => export::Table::Events,
    }
}

fn kind_of(arguments: &ExportArgs) -> export::Kind {
    let ending = arguments
        .output
        .as_ref()
        .and_then(|path| path.extension()?.to_str());
    match (arguments.format, ending) {
        (Some(Format::Ndjson), _) | (None, Some("ndjson" | "jsonl")) => export::Kind::Ndjson,
        (Some(Format::Parquet), _) | (None, Some("parquet")) => export::Kind::Parquet,
        (Some(Format::Csv), _) | (None, _) => export::Kind::Csv,
    }
}

/// Last second of the year 2200: in nanoseconds it still is a number.
const UNIX_S_MAX: i64 = 7_289_654_399;

/// Seconds since 1970 of `YYYY-MM-DD`, `YYYY-MM-DDTHH:MM:SSZ` or digits.
fn unix_s(text: &str) -> Option<i64> {
    let within = |s: i64| (0..=UNIX_S_MAX).contains(&s).then_some(s);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits(text) {
        return within(text.parse().ok()?);
    }
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let parts = |text: &str, separator: char, lengths: [usize; 3]| -> Option<[i64; 3]> {
        let mut found = [0; 3];
        let mut pieces = text.split(separator);
        for (value, length) in found.iter_mut().zip(lengths) {
            let piece = pieces.next().filter(|p| p.len() == length && digits(p))?;
            *value = piece.parse().ok()?;
        }
        pieces.next().is_none().then_some(found)
    };
    let [year, month, day] = parts(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = parts(time.strip_suffix('Z')?, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Day number of a civil date, by Howard Hinnant's "chrono-compatible low-level date algorithms".
    let y = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    within(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::unix_s;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, s) in [
            ("0", 0),
            ("1795391970", 1_795_391_970),
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2026-11-22T23:59:30Z", 1_795_391_970),
            ("2099-12-31T23:59:59Z", 4_102_444_799),
        ] {
            assert_eq!(unix_s(text), Some(s), "{text}");
        }
        for text in [
            "",
            "-1",
            "2026",
            "2026-13-01x",
            "2026-02-29",
            "2026-11-31",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:00:00",
            "2026-11-22T10:00Z",
            "+026-11-22",
            "99999999999999999999",
            "2201-01-01",
        ] {
            // "2026" is a number of seconds.
            assert_eq!(unix_s(text).is_none(), text != "2026", "{text}");
        }
    }
}
