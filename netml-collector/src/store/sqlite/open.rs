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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::store::sqlite::SqliteStore;
    use crate::store::{Filter, PageRequest, RowId, Store as _};

    #[tokio::test]
    async fn flows_of_an_earlier_schema_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("day-20261122.db");
        let (before, new): (Vec<_>, Vec<_>) =
            DAY.iter().cloned().partition(|step| step.version < 11);
        assert!(!before.is_empty() && !new.is_empty());
        let old = Migrator {
            migrations: Cow::Owned(before),
            ..Migrator::DEFAULT
        };
        let mut connection = writer(&path, &old).await.unwrap();
        sqlx::query(
            "INSERT INTO flows (id, sensor, stream_id, flow_id, state, end_reason, first_unix_ns, \
             last_unix_ns, src_ip, dst_ip, src_port, dst_port, ip_protocol, interface, fwd_packets, \
             rev_packets, fwd_bytes, rev_bytes, tcp_flags, verdict, kind, probability, score, \
             reasons, model_id, lost_meanwhile) VALUES (1, 'a', 1, 2, 3, 'fin', 0, 0, \
             x'0a000001', x'0a000002', 1, 2, 6, 'eth0', 3, 4, 5, 6, 0, 2, '', 0.1, 0.1, \
             '[{\"feature\":\"others\",\"value\":0,\"contribution\":1}]', '', 0)",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        sqlx::Connection::close(connection).await.unwrap();

        let store = SqliteStore::open(directory.path()).await.unwrap();
        let request = PageRequest {
            before: RowId::END,
            limit: 10,
        };
        let page = store.flows(&Filter::default(), request).await.unwrap();
        let flow = &page.rows[0].flow;
        assert_eq!((flow.fwd_packets, flow.icmp_errors), (3, 0));
        assert!(flow.also_seen_on.is_empty() && flow.tunnel.is_none() && flow.dns.is_none());
        assert!(flow.baseline.is_none() && flow.reasons[0].usual_low.is_none());
    }
}
