//! Whether a data directory is whole: what SQLite says of each file, and what must be true of ours.
//!
//! Reads only, also beside a collector that runs. Each file is read in one transaction, so that sums and
//! rows are of one moment. What must be true of a day:
//!
//! - minutes and hours of traffic are the sums of the seconds;
//! - talkers of a minute carry the same volume in every dimension, and their flows are those first
//!   told on that day, as are the flows by verdict;
//! - every counter balances: frames are those recorded, mapped and lost;
//! - traffic of the day is what the counters grew by since the day before;
//! - watermarks have their checksum and never go back from day to day.
//!
//! What rests on the day before is not asked where that is not here, or a day between was set aside.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, SqliteConnection};

use super::columns::Columns;
use super::{damage, day, open, state};
use crate::record::Direction;
use crate::store::StoreError;

/// Faults that SQLite may name of one file; further ones are left out.
const FAULTS_MAX: usize = 20;

/// Sums that reached this stopped there.
const SUM_MAX: f64 = 9_007_199_254_740_991.0;

/// How much SQLite looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every page and every index entry.
    Full,
    /// Every page; not whether indices and rows agree.
    Quick,
}

/// What was found in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// File by file.
    pub files: Vec<FileReport>,
}

impl Report {
    /// Whether no file has a fault.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.files.iter().all(|file| file.faults.is_empty())
    }
}

/// What was found in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its size with its log.
    pub bytes: u64,
    /// What is wrong, each in one line.
    pub faults: Vec<String>,
    /// What is to be known, and no fault.
    pub notes: Vec<String>,
}

/// Databases of a data directory that are served: those that are not of a day, then the days.
pub(super) fn databases(directory: &Path) -> Result<Vec<(Option<u32>, PathBuf)>, StoreError> {
    let unreadable = |source| StoreError::Directory {
        path: directory.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == "meta.db" || name == "pki.db" {
            found.push((None, entry.path()));
        } else if let Some(day) = day::of_file_name(name) {
            found.push((Some(day), entry.path()));
        }
    }
    found.sort_unstable();
    if !found.iter().any(|(_, path)| path.ends_with("meta.db")) {
        return Err(StoreError::NoStore {
            path: directory.to_owned(),
        });
    }
    Ok(found)
}

/// Checks a data directory or a backup of one.
///
/// # Errors
/// When the directory cannot be read or is none; what is wrong with a file is in the report.
pub async fn check(directory: &Path, depth: Depth) -> Result<Report, StoreError> {
    let set_aside = damage::set_aside_files(directory)?;
    let mut report = Report::default();
    let mut previous: Option<(u32, PathBuf)> = None;
    for (day, path) in databases(directory)? {
        let mut file = FileReport {
            name: name(&path),
            bytes: day::with_logs(&path)
                .iter()
                .filter_map(|path| std::fs::metadata(path).ok())
                .map(|metadata| metadata.len())
                .sum(),
            ..FileReport::default()
        };
        // With nothing between, the day began with the state of the one before.
        let before = previous.take().filter(|(before, _)| {
            let between = |of: u32| of >= *before && day.is_some_and(|day| of <= day);
            !set_aside.iter().any(|(of, _, _)| between(*of))
        });
        let before = before.as_ref().map(|(_, path)| path.as_path());
        if let Err(error) = check_file(&mut file, &path, day, before, depth).await {
            file.faults.push(error.to_string());
        }
        if let Some(day) = day
            && file.faults.is_empty()
        {
            previous = Some((day, path));
        }
        report.files.push(file);
    }
    report
        .files
        .extend(set_aside.iter().map(|(_, _, path)| FileReport {
            name: name(path),
            bytes: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
            faults: Vec::new(),
            notes: vec!["was found damaged and set aside: not served, not checked".to_owned()],
        }));
    Ok(report)
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

async fn check_file(
    file: &mut FileReport,
    path: &Path,
    day: Option<u32>,
    before: Option<&Path>,
    depth: Depth,
) -> Result<(), StoreError> {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
        file.faults.push("is empty".to_owned());
        return Ok(());
    }
    let mut connection = open::reader(path).await?;
    let checked = check_open(file, &mut connection, path, day, before, depth).await;
    open::close(connection).await;
    checked
}

async fn check_open(
    file: &mut FileReport,
    connection: &mut SqliteConnection,
    path: &Path,
    day: Option<u32>,
    before: Option<&Path>,
    depth: Depth,
) -> Result<(), StoreError> {
    let migrator = match day {
        Some(_) => Some(&open::DAY),
        None if path.ends_with("meta.db") => Some(&open::META),
        None => None,
    };
    if let Some(migrator) = migrator {
        match open::origin(connection, migrator).await? {
            open::Origin::Ours => {}
            open::Origin::Newer => {
                file.faults.push("was written by a newer netml".to_owned());
                return Ok(());
            }
            open::Origin::Foreign(reason) => {
                file.faults.push(reason);
                return Ok(());
            }
        }
    }
    let pragma = match depth {
        Depth::Full => "PRAGMA integrity_check(20)",
        Depth::Quick => "PRAGMA quick_check(20)",
    };
    let said: Vec<String> = sqlx::query_scalar(pragma)
        .fetch_all(&mut *connection)
        .await?;
    let faults = said.into_iter().filter(|line| line != "ok");
    file.faults
        .extend(faults.take(FAULTS_MAX).map(|line| line.replace('\n', "; ")));
    if day.is_none() || !file.faults.is_empty() {
        return Ok(());
    }
    if !open::is_latest(connection, &open::DAY).await? {
        file.notes.push(
            "is of an earlier netml: its sums are checked once the collector has started on it"
                .to_owned(),
        );
        return Ok(());
    }
    if let Some(missing) = open::is_whole(connection).await? {
        file.faults.push(format!("{missing} is missing"));
        return Ok(());
    }
    if let Some(before) = before {
        sqlx::query("ATTACH DATABASE ? AS previous")
            .bind(before.to_string_lossy().into_owned())
            .execute(&mut *connection)
            .await?;
    }
    let mut transaction = connection.begin().await?;
    for (fault, sql) in INVARIANTS {
        count(file, &mut transaction, fault, sql).await?;
    }
    let counters = counters(file, &mut transaction, "counter_bases").await?;
    watermarks(file, &mut transaction).await?;
    if before.is_some() {
        for (fault, sql) in SINCE_THE_DAY_BEFORE {
            count(file, &mut transaction, fault, sql).await?;
        }
        growth(file, &mut transaction, &counters).await?;
    }
    Ok(())
}

/// Sums of a finer table of traffic are in the coarser one.
macro_rules! rolled_up {
    ($fine:literal, $coarse:literal, $width:literal) => {
        concat!(
            "SELECT count(*) FROM (SELECT 1 FROM (SELECT unix_s - (unix_s % ",
            $width,
            " + ",
            $width,
            ") % ",
            $width,
            " AS at, sensor, interface, total(rx_bytes) AS a, total(tx_bytes) AS b, \
             total(rx_packets) AS c, total(tx_packets) AS d, total(lost_packets) AS e FROM ",
            $fine,
            " GROUP BY 1, 2, 3 UNION ALL SELECT unix_s, sensor, interface, -rx_bytes, -tx_bytes, \
             -rx_packets, -tx_packets, -lost_packets FROM ",
            $coarse,
            ") GROUP BY at, sensor, interface HAVING (total(a) <> 0 OR total(b) <> 0 OR total(c) <> 0 \
             OR total(d) <> 0 OR total(e) <> 0) AND min(min(a), min(b), min(c), min(d), min(e)) \
             > -9007199254740991)"
        )
    };
}

/// What is wrong, and the statement that counts where.
const INVARIANTS: [(&str, &str); 5] = [
    (
        "minutes of traffic are not the sums of their seconds",
        rolled_up!("traffic_1s", "traffic_1m", "60"),
    ),
    (
        "hours of traffic are not the sums of their minutes",
        rolled_up!("traffic_1m", "traffic_1h", "3600"),
    ),
    (
        "minutes of talkers differ between dimensions",
        "SELECT count(*) FROM (SELECT 1 FROM (SELECT minute, dimension, total(bytes) AS b, \
         total(packets) AS p, total(flows) AS f FROM talkers GROUP BY 1, 2) GROUP BY minute \
         HAVING (min(b) <> max(b) OR min(p) <> max(p) OR min(f) <> max(f) OR count(*) <> 5) \
         AND max(max(b), max(p), max(f)) < 9007199254740991)",
    ),
    (
        "streams have a negative number of flows",
        "SELECT count(*) FROM (SELECT 1 FROM verdict_totals GROUP BY stream_id HAVING sum(flows) < 0)",
    ),
    (
        "files were not finished",
        "SELECT 1 - count(*) FROM carried",
    ),
];

/// Likewise, with the day before as `previous`.
const SINCE_THE_DAY_BEFORE: [(&str, &str); 2] = [
    (
        "flows first told on this day are not those among the talkers",
        "SELECT abs((SELECT count(*) FROM main.flows f WHERE NOT EXISTS (SELECT 1 FROM previous.flows p \
         WHERE p.stream_id = f.stream_id AND p.flow_id = f.flow_id)) - (SELECT \
         CAST(total(flows) AS INTEGER) FROM main.talkers WHERE dimension = 0))",
    ),
    (
        "flows by verdict did not grow by the flows first told on this day",
        "SELECT abs((SELECT CAST(total(flows) AS INTEGER) FROM main.talkers WHERE dimension = 0) - \
         (SELECT CAST(total(flows) AS INTEGER) FROM main.verdict_totals) + \
         (SELECT CAST(total(flows) AS INTEGER) FROM previous.verdict_totals p WHERE EXISTS (SELECT 1 \
         FROM main.verdict_totals m WHERE m.stream_id = p.stream_id)))",
    ),
];

async fn count(
    file: &mut FileReport,
    connection: &mut SqliteConnection,
    fault: &str,
    sql: &'static str,
) -> Result<(), StoreError> {
    let wrong: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
    if wrong != 0 {
        file.faults.push(format!("{wrong} {fault}"));
    }
    Ok(())
}

/// Bytes and packets by sensor, interface and direction, over all attachments.
type Sums = BTreeMap<(String, String, Direction), (f64, f64)>;

/// Sums of the counters of a file, each of which must balance.
async fn counters(
    file: &mut FileReport,
    connection: &mut SqliteConnection,
    table: &'static str,
) -> Result<HashMap<CounterName, (f64, f64)>, StoreError> {
    let sql = match table {
        "counter_bases" => state::COUNTER_SELECT,
        _ => state::PREVIOUS_COUNTER_SELECT,
    };
    let rows: Vec<SqliteRow> = sqlx::query(sql).fetch_all(connection).await?;
    let (mut sums, mut off) = (HashMap::new(), 0);
    for row in &rows {
        let (key, base, _) = state::counter(row)?;
        let totals = &base.totals;
        let accounted = totals
            .recorded
            .saturating_add(totals.mapped)
            .saturating_add(totals.lost_total());
        off += u64::from(totals.frames != accounted);
        let name = (key.sensor, key.interface, key.direction, key.attach_id);
        sums.insert(name, (totals.bytes as f64, totals.packets as f64));
    }
    if off > 0 {
        file.faults.push(format!(
            "{off} counters do not balance: frames are not recorded + mapped + lost"
        ));
    }
    Ok(sums)
}

type CounterName = (String, String, Direction, u64);

/// Traffic of the day is what the counters grew by.
async fn growth(
    file: &mut FileReport,
    connection: &mut SqliteConnection,
    now: &HashMap<CounterName, (f64, f64)>,
) -> Result<(), StoreError> {
    let before = counters(
        &mut FileReport::default(),
        connection,
        "previous.counter_bases",
    )
    .await?;
    let mut grown: Sums = Sums::new();
    for (name, (bytes, packets)) in now {
        let (bytes_before, packets_before) = before.get(name).copied().unwrap_or_default();
        let (sensor, interface, direction, _) = name.clone();
        let sum = grown.entry((sensor, interface, direction)).or_default();
        sum.0 += bytes - bytes_before;
        sum.1 += packets - packets_before;
    }
    let rows: Vec<SqliteRow> = sqlx::query(
        "SELECT sensor, interface, total(rx_bytes), total(rx_packets), total(tx_bytes), \
         total(tx_packets) FROM main.traffic_1h GROUP BY 1, 2",
    )
    .fetch_all(connection)
    .await?;
    let mut seen = Sums::new();
    for row in &rows {
        let mut at = Columns::new(row);
        let (sensor, interface): (String, String) = (at.next()?, at.next()?);
        for direction in [Direction::Ingress, Direction::Egress] {
            let sum = (at.next()?, at.next()?);
            seen.insert((sensor.clone(), interface.clone(), direction), sum);
        }
    }
    let off = grown.iter().filter(|(name, (bytes, packets))| {
        let (seen_bytes, seen_packets) = seen.get(*name).copied().unwrap_or_default();
        let differ = |a: f64, b: f64| (a - b).abs() >= 1.0 && a.max(b) < SUM_MAX;
        differ(*bytes, seen_bytes) || differ(*packets, seen_packets)
    });
    let off = off.count();
    if off > 0 {
        file.faults.push(format!(
            "{off} interfaces and directions have other traffic than their counters grew by"
        ));
    }
    Ok(())
}

async fn watermarks(
    file: &mut FileReport,
    connection: &mut SqliteConnection,
) -> Result<(), StoreError> {
    let rows: Vec<SqliteRow> = sqlx::query(state::watermark_select!())
        .fetch_all(connection)
        .await?;
    let bad = rows.iter().filter(|row| state::watermark(row).is_err());
    let bad = bad.count();
    if bad > 0 {
        file.faults
            .push(format!("{bad} watermarks do not have their checksum"));
    }
    Ok(())
}
