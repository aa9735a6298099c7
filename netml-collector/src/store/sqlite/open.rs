//! Opening database files: settings of connections, migrations, and errors people can act on.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::OnceCell;

use super::{damage, day};
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
///
/// # Errors
/// [`StoreError::Foreign`] and [`StoreError::NotSqlite`] for a file of something else, which is left as
/// it is; [`StoreError::NewerSchema`] for one of a newer netml; else what keeps it from being opened.
pub(super) async fn writer(
    path: &Path,
    migrator: &Migrator,
) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let mut connection = options
        .connect()
        .await
        .map_err(|error| failure(path, error))?;
    match prepare(&mut connection, path, migrator).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            close(connection).await;
            Err(error)
        }
    }
}

/// Opens the file of a day as [`writer`] does, and makes sure that it holds what it should.
///
/// # Errors
/// The same, damage as [`StoreError::DayDamaged`].
pub(super) async fn day_writer(directory: &Path, day: u32) -> Result<SqliteConnection, StoreError> {
    let path = day::path(directory, day);
    let mut connection = writer(&path, &DAY)
        .await
        .map_err(|error| damage::of_day(day, error))?;
    match is_whole(&mut connection).await {
        Ok(None) => Ok(connection),
        Ok(Some(missing)) => {
            close(connection).await;
            Err(StoreError::DayDamaged {
                day,
                reason: format!("{missing} is missing"),
            })
        }
        Err(error) => {
            close(connection).await;
            Err(damage::of_day(day, error))
        }
    }
}

/// Closes a connection whose last words no longer matter.
pub(super) async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "a connection did not close in order");
    }
}

async fn prepare(
    connection: &mut SqliteConnection,
    path: &Path,
    migrator: &Migrator,
) -> Result<(), StoreError> {
    let origin = origin(connection, migrator)
        .await
        .map_err(|error| failure(path, error))?;
    match origin {
        Origin::Ours => {}
        Origin::Newer => {
            return Err(StoreError::NewerSchema {
                path: path.to_owned(),
            });
        }
        Origin::Foreign(reason) => {
            return Err(StoreError::Foreign {
                path: path.to_owned(),
                reason,
            });
        }
    }
    for pragma in [
        format!("PRAGMA cache_size = -{WRITER_CACHE_KIB}"),
        "PRAGMA journal_mode = WAL".to_owned(),
        "PRAGMA synchronous = FULL".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(pragma))
            .execute(&mut *connection)
            .await
            .map_err(|error| failure(path, error))?;
    }
    let done = migrator.run_direct(None, connection, false).await;
    done.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            failure(path, error)
        }
        other => StoreError::Open {
            path: path.to_owned(),
            reason: other.to_string(),
        },
    })
}

/// Who made a file, as its table of migrations tells.
pub(super) enum Origin {
    /// This netml or an older one; or it is empty.
    Ours,
    /// A newer one: it has all that this one knows, and more.
    Newer,
    /// Something else, or the table is damaged.
    Foreign(String),
}

/// Reads the table of migrations; changes nothing.
pub(super) async fn origin(
    connection: &mut SqliteConnection,
    migrator: &Migrator,
) -> Result<Origin, sqlx::Error> {
    let foreign = |reason: &str| Ok(Origin::Foreign(reason.to_owned()));
    let (tables, ours): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE name = '_sqlx_migrations') FROM sqlite_schema \
         WHERE type = 'table'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if ours == 0 {
        return match tables {
            0 => Ok(Origin::Ours),
            _ => foreign("it holds tables of something else"),
        };
    }
    let applied: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await?;
    let known: Vec<(i64, &[u8])> = migrator
        .iter()
        .map(|step| (step.version, &*step.checksum))
        .collect();
    // Steps are applied in order and never change, so one list begins with the other.
    let equal = applied
        .iter()
        .zip(&known)
        .all(|((version, checksum, success), known)| {
            (*version, checksum.as_slice()) == *known && *success
        });
    Ok(match (equal, applied.len() > known.len()) {
        (true, false) => Origin::Ours,
        (true, true) => Origin::Newer,
        (false, _) => Origin::Foreign("its table of migrations is not netml's".to_owned()),
    })
}

/// Whether the file has every step of the schema.
pub(super) async fn is_latest(
    connection: &mut SqliteConnection,
    migrator: &Migrator,
) -> Result<bool, sqlx::Error> {
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(applied).is_ok_and(|applied| applied == migrator.iter().count()))
}

/// Columns and indices of a database, by name.
async fn shape(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT m.name, c.name || ' ' || c.type, c.pk FROM sqlite_schema m, pragma_table_info(m.name) c \
         WHERE m.type = 'table' \
         UNION ALL SELECT name, tbl_name, 0 FROM sqlite_schema WHERE type = 'index' ORDER BY 1, 2",
    )
    .fetch_all(connection)
    .await
}

/// What a day's file lacks of the tables, columns and indices it should have.
pub(super) async fn is_whole(
    connection: &mut SqliteConnection,
) -> Result<Option<String>, StoreError> {
    static EXPECTED: OnceCell<Vec<(String, String, i64)>> = OnceCell::const_new();
    let expected = EXPECTED
        .get_or_try_init(|| async {
            let mut model = SqliteConnectOptions::new()
                .in_memory(true)
                .connect()
                .await?;
            DAY.run_direct(None, &mut model, false)
                .await
                .map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
            shape(&mut model).await
        })
        .await?;
    let found: HashSet<(String, String, i64)> = shape(connection).await?.into_iter().collect();
    let missing = expected.iter().find(|part| !found.contains(*part));
    Ok(missing.map(|(table, part, _)| format!("{part} of {table}")))
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

/// One read-only connection to a file that exists.
pub(super) async fn reader(path: &Path) -> Result<SqliteConnection, StoreError> {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|error| failure(path, error))
}

fn failure(path: &Path, error: sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(|e| e.code().map(std::borrow::Cow::into_owned));
    match code.as_deref() {
        // SQLITE_NOTADB
        Some("26") => StoreError::NotSqlite {
            path: path.to_owned(),
        },
        _ => match damage::reason(&error) {
            Some(reason) => StoreError::Foreign {
                path: path.to_owned(),
                reason,
            },
            None => StoreError::Open {
                path: path.to_owned(),
                reason: error.to_string(),
            },
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
