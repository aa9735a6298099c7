//! Opening database files: settings of connections, migrations, and errors people can act on.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, SqliteConnection};

use crate::store::StoreError;

/// Migrations of a day file.
pub(super) static DAY: Migrator = sqlx::migrate!("src/store/sqlite/migrations/day");

/// Migrations of `meta.db`.
pub(super) static META: Migrator = sqlx::migrate!("src/store/sqlite/migrations/meta");

/// Read connections per day file; further reads wait for one.
pub(super) const READERS_PER_DAY: u32 = 4;

/// Page cache of one connection, in KiB: bounds memory together with the number of connections.
/// The writer appends at few places, so a larger cache gains little.
const WRITER_CACHE_KIB: u32 = 2 * 1_024;
const READER_CACHE_KIB: u32 = 512;

/// How long a connection waits for another's lock before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a file for writing, makes it if need be and brings its schema up to date.
pub(super) async fn writer(
    path: &Path,
    migrator: &Migrator,
) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let mut connection = options
        .connect()
        .await
        .map_err(|error| failure(path, &error))?;
    migrator
        .run_direct(None, &mut connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                StoreError::NewerSchema {
                    path: path.to_owned(),
                }
            }
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                failure(path, &error)
            }
            other => StoreError::Open {
                path: path.to_owned(),
                reason: other.to_string(),
            },
        })?;
    Ok(connection)
}

/// Read-only connections to a file that exists.
pub(super) fn readers(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .pragma("cache_size", format!("-{READER_CACHE_KIB}"))
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(READERS_PER_DAY)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(60))
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

fn failure(path: &Path, error: &sqlx::Error) -> StoreError {
    let path = path.to_owned();
    let code = error
        .as_database_error()
        .and_then(|e| e.code().map(std::borrow::Cow::into_owned));
    match code.as_deref() {
        // SQLITE_NOTADB
        Some("26") => StoreError::NotSqlite { path },
        _ => StoreError::Open {
            path,
            reason: error.to_string(),
        },
    }
}
