//! The embedded store: SQLite, one file per UTC day of receipt and `meta.db` for lasting state.
//!
//! - `day-YYYYMMDD.db`: rows, sums and watermarks. They commit together, so they are in one file;
//!   a new day's file starts with the watermarks of the day before.
//! - One writer, one transaction per append, WAL with synchronous=FULL: once an append returns,
//!   it survives a crash of the process and of the host.
//! - Reads run on connections of their own and never hold up the writer.
//! - A clock that goes back changes nothing: the writer stays with the latest file.
//! - The past goes by whole files, which returns their space to the disk ([`retention`]).
//! - A damaged file is set aside and the rest goes on ([`damage`]). Where it was the one being written,
//!   a new one begins with the watermarks of the damaged one, as far as they can be read, over those of
//!   the latest day still served.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use futures_util::future::BoxFuture;
use sqlx::{SqliteConnection, SqlitePool};

use super::{
    Appended, Damage, Dimension, EventRow, Filter, FlowKey, FlowRow, Order, PacketRow, Page,
    PageRequest, Range, Retention, SENSORS_MAX, SensorRow, Size, Step, Store, StoreError, Talkers,
    Totals, TrafficPoint,
};
use crate::record::{Health, Hello, SensorBatch, SensorName, Source};
use columns::{Columns, from_json, to_json};
use writer::Writer;

pub mod check;
mod columns;
pub mod copy;
mod damage;
mod day;
mod open;
mod reader;
mod retention;
mod state;
mod writer;

/// The store. See the module.
pub struct SqliteStore {
    directory: PathBuf,
    meta: tokio::sync::Mutex<SqliteConnection>,
    writer: tokio::sync::Mutex<Option<Writer>>,
    /// Read connections by day; opened when first used.
    days: RwLock<BTreeMap<u32, SqlitePool>>,
    health: Mutex<HashMap<String, Health>>,
    unreadable: Mutex<Unreadable>,
    /// Held as long as the store lives, so that no second collector writes the directory; `None` of
    /// a store that only reads.
    lock: Option<File>,
}

/// What was found damaged since the store was opened.
#[derive(Debug, Default)]
struct Unreadable {
    days_set_aside: u64,
    rows: BTreeSet<damage::RowPlace>,
}

/// Gives what a read of all days gives. A day that it finds damaged is set aside, and it begins anew
/// with the rest.
macro_rules! of_the_rest {
    ($store:expr, $read:expr) => {{
        let mut set_aside = 0;
        loop {
            match $read.await {
                Err(StoreError::DayDamaged { day, reason })
                    if set_aside < damage::SET_ASIDE_PER_CALL_MAX =>
                {
                    set_aside += 1;
                    $store.set_aside(day, &reason).await?;
                }
                done => break done,
            }
        }
    }};
}

/// Takes a data directory for one process, as long as what is given lives.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let unwritable = |source| StoreError::Directory {
        path: directory.to_owned(),
        source,
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))
        .map_err(unwritable)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::InUse {
            path: directory.to_owned(),
        },
        TryLockError::Error(source) => unwritable(source),
    })?;
    Ok(lock)
}

/// The days of a directory, each with connections that are opened when first used.
fn days_in(directory: &Path) -> Result<BTreeMap<u32, SqlitePool>, StoreError> {
    let entries = std::fs::read_dir(directory).map_err(|source| StoreError::Directory {
        path: directory.to_owned(),
        source,
    })?;
    let days = entries.filter_map(|entry| day::of_file_name(entry.ok()?.file_name().to_str()?));
    Ok(days
        .map(|day| (day, open::readers(&day::path(directory, day))))
        .collect())
}

impl SqliteStore {
    /// Opens or makes a data directory. Damaged day files are set aside.
    ///
    /// # Errors
    /// When it cannot be written, another collector uses it, a file in it is of a newer netml, or
    /// `meta.db` is damaged or foreign.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        let unwritable = |source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        };
        // Who spoke with whom is nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(unwritable)?;
        let lock = lock(directory)?;
        let meta = open::writer(&directory.join("meta.db"), &open::META).await?;
        let days = days_in(directory)?;
        let store = Self {
            directory: directory.to_owned(),
            meta: tokio::sync::Mutex::new(meta),
            writer: tokio::sync::Mutex::new(None),
            days: RwLock::new(days),
            health: Mutex::default(),
            unreadable: Mutex::default(),
            lock: Some(lock),
        };
        store.look_through_days().await?;
        // Damage of the latest file is met at start, not at the first batch.
        if let Some(latest) = store.latest_day().await? {
            let mut slot = store.writer.lock().await;
            let writer = store.writer_of(&mut slot, latest).await?;
            *slot = Some(writer);
        }
        Ok(store)
    }

    /// Opens a data directory to be read, also while a collector runs on it. Damage is an error then,
    /// and nothing is set aside.
    ///
    /// # Errors
    /// When it is no data directory or cannot be read.
    pub async fn open_read_only(directory: &Path) -> Result<Self, StoreError> {
        let meta = directory.join("meta.db");
        if !meta.exists() {
            return Err(StoreError::NoStore {
                path: directory.to_owned(),
            });
        }
        Ok(Self {
            directory: directory.to_owned(),
            meta: tokio::sync::Mutex::new(open::reader(&meta).await?),
            writer: tokio::sync::Mutex::new(None),
            days: RwLock::new(days_in(directory)?),
            health: Mutex::default(),
            unreadable: Mutex::default(),
            lock: None,
        })
    }

    /// Files of an earlier version get the columns that reads ask for, damaged ones are set aside; one
    /// that cannot be opened now fails its own reads and nothing else.
    async fn look_through_days(&self) -> Result<(), StoreError> {
        let days: Vec<u32> = self.days().keys().copied().collect();
        for day in days {
            let path = day::path(&self.directory, day);
            if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
                // One that is being made is empty for a moment: power that goes then looks the same.
                self.set_aside(day, "it is empty").await?;
                continue;
            }
            match open::day_writer(&self.directory, day).await {
                Ok(connection) => open::close(connection).await,
                Err(StoreError::DayDamaged { day, reason }) => self.set_aside(day, &reason).await?,
                Err(error @ StoreError::NewerSchema { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a day's file cannot be brought up to date");
                }
            }
        }
        Ok(())
    }

    /// The day that is written: the latest that is served, or a later one that was set aside and from
    /// whose state its successor goes on.
    async fn latest_day(&self) -> Result<Option<u32>, StoreError> {
        let served = self.days().keys().next_back().copied();
        let set_aside = state::of_set_aside(&self.directory, served).await?;
        Ok(served.max(set_aside.into_iter().map(|(day, _)| day).max()))
    }

    fn days(&self) -> RwLockReadGuard<'_, BTreeMap<u32, SqlitePool>> {
        self.days.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, HashMap<String, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self) -> MutexGuard<'_, Unreadable> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the writer of a day; files that turn out damaged are set aside.
    async fn writer_of(&self, slot: &mut Option<Writer>, day: u32) -> Result<Writer, StoreError> {
        for _ in 0..damage::SET_ASIDE_PER_CALL_MAX {
            let previous = self.days().range(..day).next_back().map(|(day, _)| *day);
            match Writer::open(&self.directory, day, previous).await {
                Ok(writer) => {
                    self.add_day(day);
                    return Ok(writer);
                }
                Err(StoreError::DayDamaged { day, reason }) => {
                    self.set_aside_with(slot, day, &reason).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::DayDamaged {
            day,
            reason: "every new file of it is damaged as well".to_owned(),
        })
    }

    fn add_day(&self, day: u32) {
        let mut days = self.days.write().unwrap_or_else(PoisonError::into_inner);
        days.entry(day)
            .or_insert_with(|| open::readers(&day::path(&self.directory, day)));
    }

    async fn append_now(
        &self,
        batches: &[SensorBatch],
        received_unix_ms: i64,
    ) -> Result<Appended, StoreError> {
        if self.lock.is_none() {
            return Err(StoreError::ReadOnly);
        }
        let mut slot = self.writer.lock().await;
        let today = day::of_unix_ms(received_unix_ms);
        let mut set_aside = 0;
        let appended = loop {
            match self
                .append_with(&mut slot, batches, today, received_unix_ms)
                .await
            {
                Err(StoreError::DayDamaged { day, reason })
                    if set_aside < damage::SET_ASIDE_PER_CALL_MAX =>
                {
                    set_aside += 1;
                    self.set_aside_with(&mut slot, day, &reason).await?;
                }
                done => break done?,
            }
        };
        let mut health = self.health();
        for (sensor, latest) in &appended.health {
            health.insert(sensor.as_str().to_owned(), latest.clone());
        }
        Ok(appended)
    }

    async fn append_with(
        &self,
        slot: &mut Option<Writer>,
        batches: &[SensorBatch],
        today: u32,
        received_unix_ms: i64,
    ) -> Result<Appended, StoreError> {
        // Taken out, so that after any error, or a cancelled append, the next one opens anew and
        // builds on what the file holds.
        let mut writer = match slot.take() {
            Some(writer) if writer.day() < today => {
                writer.close().await?;
                self.writer_of(slot, today).await?
            }
            Some(writer) => writer,
            None => {
                let latest = self.latest_day().await?;
                self.writer_of(slot, latest.map_or(today, |latest| latest.max(today)))
                    .await?
            }
        };
        match writer.append(batches, received_unix_ms).await {
            Ok(appended) => {
                *slot = Some(writer);
                Ok(appended)
            }
            Err(error) => {
                writer.abandon().await;
                Err(error)
            }
        }
    }

    async fn store_hello(&self, hello: &Hello, now_unix_ms: i64) -> Result<(), StoreError> {
        let mut meta = self.meta.lock().await;
        let others: i64 = sqlx::query_scalar("SELECT count(*) FROM sensors WHERE sensor <> ?")
            .bind(hello.sensor.as_str().to_owned())
            .fetch_one(&mut *meta)
            .await?;
        if usize::try_from(others).unwrap_or(usize::MAX) >= SENSORS_MAX {
            return Err(StoreError::TooManySensors);
        }
        sqlx::query("INSERT OR REPLACE INTO sensors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(hello.sensor.as_str().to_owned())
            .bind(hello.version.clone())
            .bind(hello.kernel.clone())
            .bind(hello.boot_id.clone())
            .bind(hello.source.number())
            .bind(hello.stream_id.cast_signed())
            .bind(to_json(&hello.interfaces, "interfaces")?)
            .bind(hello.model_id.clone())
            .bind(hello.schema_digest.clone())
            .bind(to_json(&hello.accepted_commands, "commands")?)
            .bind(now_unix_ms)
            .execute(&mut *meta)
            .await?;
        Ok(())
    }

    async fn read_sensors(&self) -> Result<Vec<SensorRow>, StoreError> {
        let mut meta = self.meta.lock().await;
        let rows = sqlx::query(
            "SELECT sensor, version, kernel, boot_id, source, stream_id, interfaces, model_id, \
             schema_digest, accepted_commands, last_seen_unix_ms FROM sensors ORDER BY sensor",
        )
        .fetch_all(&mut *meta)
        .await?;
        let health = self.health();
        rows.iter()
            .map(|row| {
                let mut at = Columns::new(row);
                let sensor =
                    SensorName::parse(at.next()?).ok_or(StoreError::Damaged("sensor name"))?;
                let health = health.get(sensor.as_str()).cloned();
                Ok(SensorRow {
                    hello: Hello {
                        sensor,
                        version: at.next()?,
                        kernel: at.next()?,
                        boot_id: at.next()?,
                        source: at.named(Source::of_number)?,
                        stream_id: at.id()?,
                        interfaces: from_json(at.next()?, "interfaces")?,
                        model_id: at.next()?,
                        schema_digest: at.next()?,
                        accepted_commands: from_json(at.next()?, "commands")?,
                    },
                    last_seen_unix_ms: at.next()?,
                    health,
                })
            })
            .collect()
    }
}

impl Store for SqliteStore {
    fn damage(&self) -> Damage {
        self.damage_now()
    }

    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<Vec<u32>, StoreError>> {
        Box::pin(self.remove_oldest(retention))
    }

    fn append<'a>(
        &'a self,
        batches: &'a [SensorBatch],
        received_unix_ms: i64,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        Box::pin(self.append_now(batches, received_unix_ms))
    }

    fn hello<'a>(
        &'a self,
        hello: &'a Hello,
        now_unix_ms: i64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.store_hello(hello, now_unix_ms))
    }

    fn seen<'a>(
        &'a self,
        sensor: &'a SensorName,
        now_unix_ms: i64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            sqlx::query("UPDATE sensors SET last_seen_unix_ms = ? WHERE sensor = ?")
                .bind(now_unix_ms)
                .bind(sensor.as_str().to_owned())
                .execute(&mut *self.meta.lock().await)
                .await?;
            Ok(())
        })
    }

    fn sensors(&self) -> BoxFuture<'_, Result<Vec<SensorRow>, StoreError>> {
        Box::pin(self.read_sensors())
    }

    fn packets<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<PacketRow>, StoreError>> {
        Box::pin(async move { of_the_rest!(self, self.read_packets(filter, page)) })
    }

    fn flows<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<FlowRow>, StoreError>> {
        Box::pin(async move { of_the_rest!(self, self.read_flows(filter, page)) })
    }

    fn flow(&self, key: FlowKey) -> BoxFuture<'_, Result<Option<FlowRow>, StoreError>> {
        Box::pin(async move { of_the_rest!(self, self.read_flow(key)) })
    }

    fn events<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<EventRow>, StoreError>> {
        Box::pin(async move { of_the_rest!(self, self.read_events(filter, page)) })
    }

    fn traffic<'a>(
        &'a self,
        range: Range,
        step: Step,
        sensor: Option<&'a str>,
        interface: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<TrafficPoint>, StoreError>> {
        Box::pin(
            async move { of_the_rest!(self, self.read_traffic(range, step, sensor, interface)) },
        )
    }

    fn talkers(
        &self,
        dimension: Dimension,
        range: Range,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'_, Result<Talkers, StoreError>> {
        Box::pin(
            async move { of_the_rest!(self, self.read_talkers(dimension, range, order, limit)) },
        )
    }

    fn totals<'a>(&'a self, sensor: Option<&'a str>) -> BoxFuture<'a, Result<Totals, StoreError>> {
        Box::pin(async move { of_the_rest!(self, self.read_totals(sensor)) })
    }

    fn size(&self) -> Size {
        self.size_now()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let pools: Vec<SqlitePool> = self.days().values().cloned().collect();
            for pool in pools {
                pool.close().await;
            }
            if let Some(writer) = self.writer.lock().await.take()
                && let Err(error) = writer.close().await
            {
                tracing::warn!(%error, "the day's log could not be folded into its file; it will be at the next start");
            }
        })
    }
}
