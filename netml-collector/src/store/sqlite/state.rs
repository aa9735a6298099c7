//! What lives on from day to day: watermarks, counters as stored last, flows by verdict.
//!
//! A new day's file begins with it, in one transaction that also marks it as carried. It comes from
//! the latest day still served and from the later ones that were set aside, of which only tables that
//! SQLite finds whole and rows that can be are taken: of two places of a stream the farther one
//! stands. So what is served never holds a record twice: a watermark that could not be read is replaced
//! by one that is behind, and the records between the two lie in the file that is not served.

use std::collections::HashMap;
use std::path::Path;

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, SqliteConnection};

use super::columns::{Columns, from_json, to_json};
use super::{damage, open};
use crate::record::{CounterTotals, Direction, Verdict};
use crate::store::StoreError;
use crate::store::ledger::{COUNTER_BASES_MAX, CounterBase, CounterKey, WATERMARKS_MAX, Watermark};

/// State of streams, counters and verdict counts not touched for this long is not carried into a
/// new day's file: 30 days.
const CARRY_AGE_MAX_MS: i64 = 30 * 86_400_000;

/// Most rows of each kind of state carried into a new day's file, latest first.
const CARRY_ROWS_MAX: i64 = 10_000;

/// The state of one file, with the times at which each was stored (unix milliseconds).
#[derive(Debug, Default)]
pub(super) struct State {
    watermarks: Vec<(u64, Watermark, i64)>,
    counters: Vec<(CounterKey, CounterBase, i64)>,
    verdicts: Vec<VerdictTotal>,
}

#[derive(Debug)]
struct VerdictTotal {
    sensor: String,
    stream_id: u64,
    verdict: Verdict,
    flows: i64,
    updated_unix_ms: i64,
}

/// Columns of [`watermark`].
macro_rules! watermark_select {
    () => {
        "SELECT stream_id, sensor, seq, updated_unix_ms, checksum FROM watermarks"
    };
}
pub(super) use watermark_select;

/// Columns of [`counter`].
macro_rules! counter_select {
    () => {
        counter_select!("counter_bases")
    };
    ($table:literal) => {
        concat!(
            "SELECT sensor, interface, direction, attach_id, unix_ns, packets, bytes, frames, \
             recorded, mapped, lost, protocol_packets, protocol_bytes, stream_id, updated_unix_ms FROM ",
            $table
        )
    };
}

/// Columns of [`counter`].
pub(super) const COUNTER_SELECT: &str = counter_select!();

/// The same of an attached database `previous`.
pub(super) const PREVIOUS_COUNTER_SELECT: &str = counter_select!("previous.counter_bases");

/// Of a table the latest rows, as many as are carried. Parameters: age, number.
macro_rules! carried {
    ($select:expr, $table:literal) => {
        concat!(
            $select,
            " WHERE updated_unix_ms > (SELECT max(updated_unix_ms) FROM ",
            $table,
            ") - ? ORDER BY updated_unix_ms DESC LIMIT ?"
        )
    };
}

const WATERMARKS: &str = carried!(watermark_select!(), "watermarks");
const COUNTERS: &str = carried!(counter_select!(), "counter_bases");
const VERDICTS: &str = carried!(
    "SELECT sensor, stream_id, verdict, flows, updated_unix_ms FROM verdict_totals",
    "verdict_totals"
);

impl State {
    /// The state of a file that is served.
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        Ok(Self {
            watermarks: rows(connection, WATERMARKS, watermark)
                .await?
                .into_iter()
                .collect::<Result<_, _>>()?,
            counters: rows(connection, COUNTERS, counter)
                .await?
                .into_iter()
                .collect::<Result<_, _>>()?,
            verdicts: rows(connection, VERDICTS, verdict_total)
                .await?
                .into_iter()
                .collect::<Result<_, _>>()?,
        })
    }

    /// What can still be read of the state of a file that was set aside.
    async fn salvage(connection: &mut SqliteConnection) -> Self {
        let mut state = Self::default();
        if is_sound(connection, "PRAGMA integrity_check(watermarks)").await {
            state.watermarks = salvaged(connection, WATERMARKS, watermark).await;
        }
        if is_sound(connection, "PRAGMA integrity_check(counter_bases)").await {
            state.counters = salvaged(connection, COUNTERS, counter).await;
        }
        if is_sound(connection, "PRAGMA integrity_check(verdict_totals)").await {
            state.verdicts = salvaged(connection, VERDICTS, verdict_total).await;
        }
        state
    }
}

/// States of the files of days after `after` that were set aside, in the order in which they were;
/// without those of which no watermark can be read.
pub(super) async fn of_set_aside(
    directory: &Path,
    after: Option<u32>,
) -> Result<Vec<(u32, State)>, StoreError> {
    let mut states = Vec::new();
    for (day, _, path) in damage::set_aside_files(directory)? {
        if after.is_some_and(|after| day <= after) {
            continue;
        }
        let state = match open::reader(&path).await {
            Ok(mut connection) => {
                let state = State::salvage(&mut connection).await;
                open::close(connection).await;
                state
            }
            Err(error) => {
                tracing::debug!(%error, "nothing can be read of a file that was set aside");
                continue;
            }
        };
        if !state.watermarks.is_empty() {
            states.push((day, state));
        }
    }
    Ok(states)
}

/// Whether the file has begun with the state of the days before it.
pub(super) async fn is_carried(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let carried: Option<i64> = sqlx::query_scalar("SELECT one FROM carried")
        .fetch_optional(connection)
        .await?;
    Ok(carried.is_some())
}

/// Writes states, the later over the earlier ones, into a new file, once.
pub(super) async fn carry(
    connection: &mut SqliteConnection,
    states: &[State],
) -> Result<(), StoreError> {
    let mut watermarks: HashMap<u64, (&Watermark, i64)> = HashMap::new();
    let mut counters: HashMap<&CounterKey, (&CounterBase, i64)> = HashMap::new();
    let mut verdicts: HashMap<(u64, Verdict), &VerdictTotal> = HashMap::new();
    for state in states {
        for (stream_id, watermark, at) in &state.watermarks {
            let place = watermarks.entry(*stream_id).or_insert((watermark, *at));
            if place.0.seq < watermark.seq {
                *place = (watermark, *at);
            }
        }
        for (key, base, at) in &state.counters {
            let place = counters.entry(key).or_insert((base, *at));
            if place.1 <= *at {
                *place = (base, *at);
            }
        }
        for total in &state.verdicts {
            let place = verdicts
                .entry((total.stream_id, total.verdict))
                .or_insert(total);
            if place.updated_unix_ms <= total.updated_unix_ms {
                *place = total;
            }
        }
    }
    let mut transaction = connection.begin().await?;
    let file = &mut *transaction;
    for (stream_id, (watermark, at)) in watermarks {
        set_watermark(file, stream_id, watermark, at).await?;
    }
    for (key, (base, at)) in counters {
        set_counter(file, key, base, at).await?;
    }
    for total in verdicts.into_values() {
        sqlx::query("INSERT OR REPLACE INTO verdict_totals VALUES (?, ?, ?, ?, ?)")
            .bind(total.sensor.clone())
            .bind(total.stream_id.cast_signed())
            .bind(total.verdict.number())
            .bind(total.flows)
            .bind(total.updated_unix_ms)
            .execute(&mut *file)
            .await?;
    }
    sqlx::query("INSERT INTO carried VALUES (1)")
        .execute(&mut *file)
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// The latest watermarks of a file, as many as memory holds.
pub(super) async fn watermarks(
    connection: &mut SqliteConnection,
) -> Result<HashMap<u64, Watermark>, StoreError> {
    let rows = sqlx::query(concat!(
        watermark_select!(),
        " ORDER BY updated_unix_ms DESC LIMIT ?"
    ))
    .bind(WATERMARKS_MAX as i64)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| watermark(row).map(|(stream_id, watermark, _)| (stream_id, watermark)))
        .collect()
}

/// The latest counters likewise.
pub(super) async fn counters(
    connection: &mut SqliteConnection,
) -> Result<HashMap<CounterKey, CounterBase>, StoreError> {
    let rows = sqlx::query(concat!(
        counter_select!(),
        " ORDER BY updated_unix_ms DESC LIMIT ?"
    ))
    .bind(COUNTER_BASES_MAX as i64)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| counter(row).map(|(key, base, _)| (key, base)))
        .collect()
}

/// A row of `watermark_select!`.
pub(super) fn watermark(row: &SqliteRow) -> Result<(u64, Watermark, i64), StoreError> {
    let mut at = Columns::new(row);
    let stream_id = at.id()?;
    let watermark = Watermark {
        sensor: at.next()?,
        seq: at.count()?,
    };
    let updated_unix_ms = at.next()?;
    let expected: Option<i64> = at.next()?;
    if expected.is_some_and(|expected| expected != checksum(stream_id, &watermark)) {
        return Err(StoreError::Damaged("watermark"));
    }
    Ok((stream_id, watermark, updated_unix_ms))
}

/// A counter and when it was stored (unix milliseconds), selected with [`COUNTER_SELECT`].
pub(super) fn counter(row: &SqliteRow) -> Result<(CounterKey, CounterBase, i64), StoreError> {
    let mut at = Columns::new(row);
    let key = CounterKey {
        sensor: at.next()?,
        interface: at.next()?,
        direction: at.named(Direction::of_number)?,
        attach_id: at.id()?,
    };
    let unix_ns = at.next()?;
    let totals = CounterTotals {
        packets: at.count()?,
        bytes: at.count()?,
        frames: at.count()?,
        recorded: at.count()?,
        mapped: at.count()?,
        lost: from_json(at.next()?, "lost")?,
        protocol_packets: from_json(at.next()?, "protocol packets")?,
        protocol_bytes: from_json(at.next()?, "protocol bytes")?,
    };
    let base = CounterBase {
        stream_id: at.id()?,
        unix_ns,
        totals,
    };
    Ok((key, base, at.next()?))
}

fn verdict_total(row: &SqliteRow) -> Result<VerdictTotal, StoreError> {
    let mut at = Columns::new(row);
    Ok(VerdictTotal {
        sensor: at.next()?,
        stream_id: at.id()?,
        verdict: at.named(Verdict::of_number)?,
        flows: at.next()?,
        updated_unix_ms: at.next()?,
    })
}

/// Sets a stream's watermark.
pub(super) async fn set_watermark(
    connection: &mut SqliteConnection,
    stream_id: u64,
    watermark: &Watermark,
    updated_unix_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO watermarks (stream_id, sensor, seq, updated_unix_ms, checksum) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(stream_id.cast_signed())
    .bind(watermark.sensor.clone())
    .bind(watermark.seq.cast_signed())
    .bind(updated_unix_ms)
    .bind(checksum(stream_id, watermark))
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets a counter.
pub(super) async fn set_counter(
    connection: &mut SqliteConnection,
    key: &CounterKey,
    base: &CounterBase,
    updated_unix_ms: i64,
) -> Result<(), StoreError> {
    let totals = &base.totals;
    sqlx::query(
        "INSERT OR REPLACE INTO counter_bases (sensor, interface, direction, attach_id, unix_ns, \
         packets, bytes, frames, recorded, mapped, lost, protocol_packets, protocol_bytes, \
         updated_unix_ms, stream_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(key.sensor.clone())
    .bind(key.interface.clone())
    .bind(key.direction.number())
    .bind(key.attach_id.cast_signed())
    .bind(base.unix_ns)
    .bind(totals.packets.cast_signed())
    .bind(totals.bytes.cast_signed())
    .bind(totals.frames.cast_signed())
    .bind(totals.recorded.cast_signed())
    .bind(totals.mapped.cast_signed())
    .bind(to_json(&totals.lost, "lost")?)
    .bind(to_json(&totals.protocol_packets, "protocol packets")?)
    .bind(to_json(&totals.protocol_bytes, "protocol bytes")?)
    .bind(updated_unix_ms)
    .bind(base.stream_id.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

fn checksum(stream_id: u64, watermark: &Watermark) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&stream_id.to_le_bytes());
    hasher.update(&watermark.seq.to_le_bytes());
    hasher.update(watermark.sensor.as_bytes());
    i64::from(hasher.finalize())
}

async fn rows<T>(
    connection: &mut SqliteConnection,
    sql: &'static str,
    decode: fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Vec<Result<T, StoreError>>, StoreError> {
    let rows = sqlx::query(sql)
        .bind(CARRY_AGE_MAX_MS)
        .bind(CARRY_ROWS_MAX)
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(decode).collect())
}

/// Rows that can be read; of a table that cannot, none.
async fn salvaged<T>(
    connection: &mut SqliteConnection,
    sql: &'static str,
    decode: fn(&SqliteRow) -> Result<T, StoreError>,
) -> Vec<T> {
    match rows(connection, sql, decode).await {
        Ok(rows) => rows.into_iter().flatten().collect(),
        Err(error) => {
            tracing::debug!(%error, "a table of a file that was set aside cannot be read");
            Vec::new()
        }
    }
}

/// Whether SQLite finds a table whole.
async fn is_sound(connection: &mut SqliteConnection, pragma: &'static str) -> bool {
    let said: Result<String, _> = sqlx::query_scalar(pragma).fetch_one(connection).await;
    said.is_ok_and(|said| said == "ok")
}
