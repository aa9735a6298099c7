//! The feature table: rows at the evaluation points with their labels, as compressed CSV; also written,
//! not read, as Parquet ([`columnar`]).
//!
//! The first line names the schema the features were computed by; a table of another schema is
//! refused. No address and no absolute time is in it: a host is a number within its capture, a
//! time counts from the capture's first row. The same rows give the same bytes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::columnar;
use crate::flow::FEATURES;
use crate::flow::schema::{self, FEATURE_SPECS};
use crate::rules::Rule;

/// Largest table that is read, decompressed.
const TABLE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Rows up to which a table is taken; more would not fit the trainer's memory.
pub(super) const ROWS_MAX: usize = 4_000_000;

/// Columns before the features.
pub const META_COLUMNS: [&str; 12] = [
    "capture",
    "group",
    "kind",
    "quality",
    "attack",
    "flow",
    "stands_for",
    "packets",
    "time_ms",
    "host",
    "fit",
    "rule",
];

const FIRST_LINE: &str = "# netml feature table 2, schema ";

/// Number in the first line: which columns stand before the features.
pub(super) const TABLE_FORMAT: u32 = 2;

/// A name by its index into a [`Names`].
pub type NameId = u32;

/// Names in the order of their first use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    names: Vec<String>,
    index: HashMap<String, NameId>,
}

impl Names {
    /// Index of a name, new or known.
    pub fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.index.get(name) {
            return *id;
        }
        let id = self.names.len() as NameId;
        self.names.push(name.to_string());
        self.index.insert(name.to_string(), id);
        id
    }

    /// The name of an index this set gave.
    #[must_use]
    pub fn name(&self, id: NameId) -> &str {
        self.names.get(id as usize).map_or("", String::as_str)
    }

    /// All names.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.names
    }
}

/// One evaluation point.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Capture, by [`Table::captures`].
    pub capture: NameId,
    /// Group, by [`Table::groups`].
    pub group: NameId,
    /// Kind, by [`Table::kinds`].
    pub kind: NameId,
    /// Trust in the label: `A`, `B`, `C`, or `-` where not told.
    pub quality: char,
    /// Attack or benign.
    pub attack: bool,
    /// Flow within the capture.
    pub flow: u32,
    /// Flows of its cell this one stands for: copies of it and flows left out by the cap.
    pub stands_for: f32,
    /// Packets of the flow so far.
    pub packets: u64,
    /// Milliseconds since the capture's first row.
    pub time_ms: u64,
    /// The flow's initiator, a number within the capture.
    pub host: u32,
    /// False where an equal vector of the same group and kind stands before: counts in verdicts
    /// over flows, not in fitting.
    pub fit: bool,
    /// What a rule says; no feature, and never fitted.
    pub rule: Option<Rule>,
    /// In the order of the schema, finite.
    pub features: [f32; FEATURES],
}

/// Rows and the names they refer to. Rows of one flow stand together, in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Captures.
    pub captures: Names,
    /// Groups.
    pub groups: Names,
    /// Kinds.
    pub kinds: Names,
    /// Rows.
    pub rows: Vec<Row>,
    /// What it was put together from, where that is more than one table; not written.
    pub sources: Vec<super::tables::Source>,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read or written.
    #[error("cannot {doing} the feature table {}: {source}", path.display())]
    Io {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It does not begin as a table does.
    #[error("{} is no feature table: make one with `netml-agent dataset`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Parquet, which is written for others and not read.
    #[error(
        "{} is Parquet, which other tools read: give the same table as compressed CSV (`dataset --output FILE.csv.gz`)",
        path.display()
    )]
    Columnar {
        /// The file.
        path: PathBuf,
    },
    /// Made by another feature schema.
    #[error(
        "feature table {} was made by another feature schema ({got}, this build has {want}): make it anew with `netml-agent dataset`",
        path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// First digits of its digest.
        got: String,
        /// First digits of this build's.
        want: String,
    },
    /// Columns are missing, too many, or in another order.
    #[error("feature table {}: column {column} is \"{got}\", not \"{want}\"", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// Number of the column, from 1.
        column: usize,
        /// Its name; empty where it is missing.
        got: String,
        /// The name it must have; empty where there must be none.
        want: String,
    },
    /// A value cannot be used.
    #[error("feature table {} line {line}, column `{column}`: {what}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, the first being 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A line has another number of columns.
    #[error("feature table {} line {line}: {got} columns, not {want}", path.display())]
    Width {
        /// The file.
        path: PathBuf,
        /// Line, the first being 1.
        line: u64,
        /// Columns found.
        got: usize,
        /// Columns there must be.
        want: usize,
    },
    /// Given a second time: its rows would count twice.
    #[error("feature table {} holds the rows of {} again: give each table once", path.display(), first.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The same earlier.
        first: PathBuf,
    },
    /// Own rows in a group that the base holds.
    #[error(
        "feature table {}: group \"{group}\" is in the base {} too; own rows are a group of their own, named by the labels' `group` column or `capture --group`",
        path.display(),
        base.display()
    )]
    GroupOfBase {
        /// The file.
        path: PathBuf,
        /// The group.
        group: String,
        /// The base.
        base: PathBuf,
    },
    /// More rows than are taken.
    #[error("more than {ROWS_MAX} rows with feature table {}: lower `dataset --cap`", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl Table {
    /// Rows of each flow, as ranges of [`Self::rows`].
    #[must_use]
    pub fn flows(&self) -> Vec<std::ops::Range<usize>> {
        let mut flows: Vec<std::ops::Range<usize>> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            match flows.last_mut() {
                Some(last) if self.same_flow(last.start, row) => last.end = index + 1,
                _ => flows.push(index..index + 1),
            }
        }
        flows
    }

    fn same_flow(&self, first: usize, row: &Row) -> bool {
        let first = &self.rows[first];
        (first.capture, first.flow, first.attack) == (row.capture, row.flow, row.attack)
    }

    /// The table as CSV, before compression.
    fn write_csv(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{FIRST_LINE}{}", schema::digest())?;
        let names = META_COLUMNS.iter().copied();
        let header: Vec<&str> = names.chain(FEATURE_SPECS.iter().map(|s| s.name)).collect();
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(&header)?;
        let mut fields = Vec::with_capacity(header.len());
        for row in &self.rows {
            fields.clear();
            fields.extend([
                self.captures.name(row.capture).to_string(),
                self.groups.name(row.group).to_string(),
                self.kinds.name(row.kind).to_string(),
                row.quality.to_string(),
                u8::from(row.attack).to_string(),
                row.flow.to_string(),
                row.stands_for.to_string(),
                row.packets.to_string(),
                row.time_ms.to_string(),
                row.host.to_string(),
                u8::from(row.fit).to_string(),
                row.rule
                    .map_or_else(String::new, |rule| rule.name().to_string()),
            ]);
            // The shortest text that reads back as the same number.
            fields.extend(row.features.iter().map(f32::to_string));
            csv.write_record(&fields)?;
        }
        csv.flush()
    }

    /// Writes the table, compressed: to a file beside, then in place of `path` at once. Parquet where the
    /// name ends in `.parquet`, else CSV.
    ///
    /// # Errors
    /// [`TableError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), TableError> {
        let is_columnar = path.extension().is_some_and(|ending| ending == "parquet");
        let bytes = if is_columnar {
            columnar::to_bytes(self).map_err(std::io::Error::other)
        } else {
            self.to_bytes()
        };
        bytes
            .and_then(|bytes| replace(path, &bytes))
            .map_err(|source| TableError::Io {
                doing: "write",
                path: path.to_path_buf(),
                source,
            })
    }

    /// The bytes [`Self::write`] writes.
    pub(super) fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        // No name and no time in the header: the same table is the same file.
        let mut gz = GzEncoder::new(Vec::new(), Compression::best());
        self.write_csv(&mut gz)?;
        gz.finish()
    }

    /// Reads a table, compressed or not.
    ///
    /// # Errors
    /// [`TableError`] with file, line and column.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let io = |source| TableError::Io {
            doing: "read",
            path: path.to_path_buf(),
            source,
        };
        let mut file = BufReader::new(std::fs::File::open(path).map_err(io)?);
        let begin = file.fill_buf().map_err(io)?;
        if begin.starts_with(columnar::MAGIC) {
            let path = path.to_path_buf();
            return Err(TableError::Columnar { path });
        }
        if begin.starts_with(&[0x1f, 0x8b]) {
            Self::parse(MultiGzDecoder::new(file), path)
        } else {
            Self::parse(file, path)
        }
    }

    /// The same from decompressed bytes; `path` is for messages.
    pub(super) fn parse(from: impl Read, path: &Path) -> Result<Self, TableError> {
        let io = |source| TableError::Io {
            doing: "read",
            path: path.to_path_buf(),
            source,
        };
        let mut from = BufReader::new(from.take(TABLE_BYTES_MAX));
        check_first_line(&mut from, path)?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(from);
        let io_csv = |error: csv::Error| io(error.into());
        check_header(reader.headers().map_err(io_csv)?, path)?;
        let mut table = Self::default();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(io_csv)? {
            // The reader counts from behind the first line.
            let line = record.position().map_or(0, csv::Position::line) + 1;
            if table.rows.len() == ROWS_MAX {
                let path = path.to_path_buf();
                return Err(TableError::TooLong { path });
            }
            let row = table.parse_row(&record, path, line)?;
            table.rows.push(row);
        }
        Ok(table)
    }

    fn parse_row(
        &mut self,
        record: &csv::StringRecord,
        path: &Path,
        line: u64,
    ) -> Result<Row, TableError> {
        let want = META_COLUMNS.len() + FEATURES;
        if record.len() != want {
            return Err(TableError::Width {
                path: path.to_path_buf(),
                line,
                got: record.len(),
                want,
            });
        }
        let line = Line { record, path, line };
        let mut features = [0.0; FEATURES];
        for (index, value) in features.iter_mut().enumerate() {
            let column = META_COLUMNS.len() + index;
            let parsed: f32 = line.number(column)?;
            if !parsed.is_finite() {
                return Err(line.error(column, "is not finite"));
            }
            *value = parsed;
        }
        let mut quality = line.get(3).chars();
        let stands_for: f32 = line.number(6)?;
        if !stands_for.is_finite() || stands_for <= 0.0 {
            return Err(line.error(6, "is not above 0"));
        }
        Ok(Row {
            capture: self.captures.id(line.name(0)?),
            group: self.groups.id(line.name(1)?),
            kind: self.kinds.id(line.name(2)?),
            quality: quality.next().unwrap_or('-'),
            attack: line.flag(4)?,
            flow: line.number(5)?,
            stands_for,
            packets: line.number(7)?,
            time_ms: line.number(8)?,
            host: line.number(9)?,
            fit: line.flag(10)?,
            rule: line.rule(11)?,
            features,
        })
    }
}

/// Writes a file as a whole: a reader sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| std::fs::rename(&beside, path));
    if moved.is_err() {
        // The first error is the one to tell; the file beside may not even exist.
        std::fs::remove_file(&beside).ok();
    }
    moved
}

fn check_first_line(from: &mut impl BufRead, path: &Path) -> Result<(), TableError> {
    let mut first = Vec::new();
    let limit = (FIRST_LINE.len() + 128) as u64;
    let read = from.take(limit).read_until(b'\n', &mut first);
    read.map_err(|source| TableError::Io {
        doing: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let first = String::from_utf8_lossy(&first);
    let digest = first.strip_prefix(FIRST_LINE).map(str::trim);
    let digest = digest.ok_or_else(|| TableError::Foreign {
        path: path.to_path_buf(),
    })?;
    let want = schema::digest();
    if digest != want {
        return Err(TableError::Schema {
            path: path.to_path_buf(),
            got: digest.chars().take(12).collect(),
            want: want.chars().take(12).collect(),
        });
    }
    Ok(())
}

fn column_name(index: usize) -> &'static str {
    let feature = || FEATURE_SPECS.get(index - META_COLUMNS.len());
    match META_COLUMNS.get(index) {
        Some(name) => name,
        None => feature().map_or("", |spec| spec.name),
    }
}

fn check_header(header: &csv::StringRecord, path: &Path) -> Result<(), TableError> {
    let columns = header.len().max(META_COLUMNS.len() + FEATURES);
    for index in 0..columns {
        let got = header.get(index).unwrap_or("");
        let want = column_name(index);
        if got != want {
            return Err(TableError::Column {
                path: path.to_path_buf(),
                column: index + 1,
                got: got.to_string(),
                want: want.to_string(),
            });
        }
    }
    Ok(())
}

/// One line of the file.
struct Line<'a> {
    record: &'a csv::StringRecord,
    path: &'a Path,
    line: u64,
}

impl Line<'_> {
    fn get(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or("")
    }

    fn error(&self, column: usize, what: &str) -> TableError {
        TableError::Value {
            path: self.path.to_path_buf(),
            line: self.line,
            column: column_name(column),
            what: format!("\"{}\" {what}", self.get(column)),
        }
    }

    fn name(&self, column: usize) -> Result<&str, TableError> {
        match self.get(column) {
            "" => Err(self.error(column, "is empty")),
            name => Ok(name),
        }
    }

    fn number<T: std::str::FromStr>(&self, column: usize) -> Result<T, TableError> {
        self.get(column)
            .parse()
            .map_err(|_| self.error(column, "is not a number of its range"))
    }

    fn rule(&self, column: usize) -> Result<Option<Rule>, TableError> {
        match self.get(column) {
            "" => Ok(None),
            name => Rule::of_name(name)
                .map(Some)
                .ok_or_else(|| self.error(column, "is no rule")),
        }
    }

    fn flag(&self, column: usize) -> Result<bool, TableError> {
        match self.get(column) {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.error(column, "is neither 0 nor 1")),
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
