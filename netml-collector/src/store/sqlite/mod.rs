//! The embedded store: SQLite, one file per UTC day of receipt and `meta.db` for lasting state.
//!
//! - `day-YYYYMMDD.db`: rows, sums and watermarks. They commit together, so they are in one file;
//!   a new day's file starts with the watermarks of the day before.
//! - One writer, one transaction per append, WAL with synchronous=FULL: once an append returns,
//!   it survives a crash of the process and of the host.
//! - Reads run on connections of their own and never hold up the writer.
//! - A clock that goes back changes nothing: the writer stays with the latest file.
//! - The past goes by whole files, which returns their space to the disk ([`retention`]).

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use futures_util::future::BoxFuture;
use sqlx::{SqliteConnection, SqlitePool};

use super::{
    Appended, Dimension, EventRow, Filter, FlowKey, FlowRow, Order, PacketRow, Page, PageRequest,
    Range, Retention, SENSORS_MAX, SensorRow, Size, Step, Store, StoreError, Talkers, Totals,
    TrafficPoint,
};
use crate::record::{Health, Hello, SensorBatch, SensorName, Source};
use columns::{Columns, from_json, to_json};
use writer::Writer;

mod columns;
mod day;
mod open;
mod reader;
mod retention;
mod writer;

/// The store. See the module.
pub struct SqliteStore {
    directory: PathBuf,
    meta: tokio::sync::Mutex<SqliteConnection>,
    writer: tokio::sync::Mutex<Option<Writer>>,
    /// Read connections by day; opened when first used.
    days: RwLock<BTreeMap<u32, SqlitePool>>,
    health: Mutex<HashMap<String, Health>>,
    /// Held as long as the store lives, so that no second collector writes the directory.
    _lock: File,
}

impl SqliteStore {
    /// Opens or makes a data directory.
    ///
    /// # Errors
    /// When it cannot be written, another collector uses it, or a file in it is damaged, foreign
    /// or of a newer netml.
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
        let lock_path = directory.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(unwritable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse {
                path: directory.to_owned(),
            },
            TryLockError::Error(source) => unwritable(source),
        })?;
        let meta = open::writer(&directory.join("meta.db"), &open::META).await?;
        let days: BTreeMap<u32, SqlitePool> = std::fs::read_dir(directory)
            .map_err(unwritable)?
            .filter_map(|entry| day::of_file_name(entry.ok()?.file_name().to_str()?))
            .map(|day| (day, open::readers(&day::path(directory, day))))
            .collect();
        // Files of an earlier version get the columns that reads ask for; one that is damaged
        // fails its own reads and nothing else.
        for day in days.keys() {
            let path = day::path(directory, *day);
            match open::writer(&path, &open::DAY).await {
                Ok(connection) => sqlx::Connection::close(connection).await?,
                Err(error) => {
                    tracing::warn!(%error, "a day's file cannot be brought up to date");
                }
            }
        }
        let store = Self {
            directory: directory.to_owned(),
            meta: tokio::sync::Mutex::new(meta),
            writer: tokio::sync::Mutex::new(None),
            days: RwLock::new(days),
            health: Mutex::default(),
            _lock: lock,
        };
        // A damaged latest file is told at start, not at the first batch.
        let latest = store.days().keys().next_back().copied();
        if let Some(day) = latest {
            let writer = store.open_writer(day).await?;
            *store.writer.lock().await = Some(writer);
        }
        Ok(store)
    }

    fn days(&self) -> RwLockReadGuard<'_, BTreeMap<u32, SqlitePool>> {
        self.days.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, HashMap<String, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open_writer(&self, day: u32) -> Result<Writer, StoreError> {
        let previous = self.days().range(..day).next_back().map(|(day, _)| *day);
        let writer = Writer::open(&self.directory, day, previous).await?;
        self.add_day(day);
        Ok(writer)
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
        let mut slot = self.writer.lock().await;
        let today = day::of_unix_ms(received_unix_ms);
        // Taken out, so that after any error, or a cancelled append, the next one opens anew and
        // builds on what the file holds.
        let mut writer = match slot.take() {
            Some(writer) if writer.day() < today => {
                let writer = writer.turn(today).await?;
                self.add_day(today);
                writer
            }
            Some(writer) => writer,
            None => {
                let latest = self.days().keys().next_back().copied();
                self.open_writer(latest.map_or(today, |latest| latest.max(today)))
                    .await?
            }
        };
        let appended = writer.append(batches, received_unix_ms).await?;
        *slot = Some(writer);
        let mut health = self.health();
        for (sensor, latest) in &appended.health {
            health.insert(sensor.as_str().to_owned(), latest.clone());
        }
        Ok(appended)
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
        Box::pin(self.read_packets(filter, page))
    }

    fn flows<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<FlowRow>, StoreError>> {
        Box::pin(self.read_flows(filter, page))
    }

    fn flow(&self, key: FlowKey) -> BoxFuture<'_, Result<Option<FlowRow>, StoreError>> {
        Box::pin(self.read_flow(key))
    }

    fn events<'a>(
        &'a self,
        filter: &'a Filter,
        page: PageRequest,
    ) -> BoxFuture<'a, Result<Page<EventRow>, StoreError>> {
        Box::pin(self.read_events(filter, page))
    }

    fn traffic<'a>(
        &'a self,
        range: Range,
        step: Step,
        sensor: Option<&'a str>,
        interface: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<TrafficPoint>, StoreError>> {
        Box::pin(self.read_traffic(range, step, sensor, interface))
    }

    fn talkers(
        &self,
        dimension: Dimension,
        range: Range,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'_, Result<Talkers, StoreError>> {
        Box::pin(self.read_talkers(dimension, range, order, limit))
    }

    fn totals<'a>(&'a self, sensor: Option<&'a str>) -> BoxFuture<'a, Result<Totals, StoreError>> {
        Box::pin(self.read_totals(sensor))
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
