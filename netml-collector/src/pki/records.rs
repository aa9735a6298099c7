//! `pki.db` in the data directory: authorities with their keys, hosts, tokens, certificates.
//!
//! Shell. Only the collector's user may read the file. Every change is one transaction, so that two
//! processes, or a crash, never leave half of one; a token is used up in the same transaction that
//! notes the certificate given for it.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netml_proto::token::{Fingerprint, Token};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use super::authority::{self, Authority, ISSUING, Issued};
use super::{CERTIFICATES_MAX, Known, PkiError, RENEWAL_GRACE_MS, TOKENS_MAX, sha256};
use crate::record::SensorName;

static MIGRATIONS: Migrator = sqlx::migrate!("src/pki/migrations");

/// State of an authority that is trusted and does not sign yet.
const NEXT: i64 = 0;
/// State of one that is trusted and signs no more.
const LEAVING: i64 = 2;

/// How long one process waits for another's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time a token can be good for.
pub const TOKEN_MS_MAX: i64 = 30 * 24 * 3_600 * 1_000;

/// `pki.db` cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The file.
    #[error("{path} cannot be opened: {reason}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A statement.
    #[error("pki.db failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A value that this program cannot have written.
    #[error("the stored {0} is damaged; restore pki.db from a backup")]
    Damaged(&'static str),
}

/// A line of the list of sensors and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The sensor.
    pub sensor: String,
    /// `token`, `certificate`, `expired` or `revoked`.
    pub state: &'static str,
    /// End of the token or of the latest certificate.
    pub until_unix_ms: i64,
}

/// See the module.
pub struct Records {
    path: PathBuf,
    connection: tokio::sync::Mutex<SqliteConnection>,
}

impl Records {
    /// Opens the file of a data directory; None where there is none.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn open(directory: &Path) -> Result<Option<Self>, RecordsError> {
        let path = directory.join("pki.db");
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Self::connect(path).await.map(Some),
            // A directory that cannot be is for the store to tell.
            Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(RecordsError::Open {
                path,
                reason: error.to_string(),
            }),
        }
    }

    /// Opens the file, makes it if it is not there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn create(directory: &Path) -> Result<Self, RecordsError> {
        let path = directory.join("pki.db");
        let refused = |error: std::io::Error| RecordsError::Open {
            path: path.clone(),
            reason: error.to_string(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(refused)?;
        // SQLite gives its logs the permissions of the file.
        File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(refused)?;
        Self::connect(path).await
    }

    async fn connect(path: PathBuf) -> Result<Self, RecordsError> {
        let refused = |reason: String| RecordsError::Open {
            path: path.clone(),
            reason,
        };
        let mut connection = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(|error| refused(error.to_string()))?;
        MIGRATIONS
            .run_direct(None, &mut connection, false)
            .await
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            path,
            connection: tokio::sync::Mutex::new(connection),
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All authorities, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn authorities(&self) -> Result<Vec<Authority>, RecordsError> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT id, certificate, key, state, created_unix_ms FROM authorities ORDER BY id",
        )
        .fetch_all(&mut *connection)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Authority::stored(
                    row.try_get(0)?,
                    row.try_get(1)?,
                    row.try_get(2)?,
                    row.try_get(3)?,
                    row.try_get(4)?,
                ))
            })
            .collect()
    }

    /// Names and addresses of the collector.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn hosts(&self) -> Result<Vec<String>, RecordsError> {
        let mut connection = self.connection.lock().await;
        Ok(sqlx::query_scalar("SELECT host FROM hosts ORDER BY host")
            .fetch_all(&mut *connection)
            .await?)
    }

    /// Every certificate by fingerprint.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn certificates(&self) -> Result<HashMap<Fingerprint, Known>, RecordsError> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT fingerprint, sensor, not_after_unix_ms, revoked_unix_ms IS NOT NULL FROM certificates",
        )
        .fetch_all(&mut *connection)
        .await?;
        rows.iter()
            .map(|row| {
                let fingerprint: Vec<u8> = row.try_get(0)?;
                let fingerprint = fingerprint
                    .try_into()
                    .map_err(|_| RecordsError::Damaged("fingerprint"))?;
                let known = Known {
                    sensor: SensorName::parse(row.try_get(1)?)
                        .ok_or(RecordsError::Damaged("sensor name"))?,
                    not_after_unix_ms: row.try_get(2)?,
                    revoked: row.try_get(3)?,
                };
                Ok((fingerprint, known))
            })
            .collect()
    }

    /// Begins: an authority that signs, and the hosts of the collector.
    ///
    /// # Errors
    /// Where there is one already, or a host is none.
    pub async fn init(&self, hosts: &[String], now_unix_ms: i64) -> Result<Fingerprint, PkiError> {
        let (certificate, key) = Authority::make(now_unix_ms)?;
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await.map_err(RecordsError::from)?;
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM authorities")
            .fetch_one(&mut *change)
            .await
            .map_err(RecordsError::from)?;
        if there > 0 {
            return Err(PkiError::AuthorityExists(self.path.clone()));
        }
        insert_authority(&mut change, &certificate, &key, ISSUING, now_unix_ms).await?;
        insert_hosts(&mut change, hosts).await?;
        change.commit().await.map_err(RecordsError::from)?;
        Ok(sha256(&certificate))
    }

    /// Further names and addresses of the collector, for its certificate from the next look on.
    ///
    /// # Errors
    /// Without an authority, or where one is no host.
    pub async fn add_hosts(&self, hosts: &[String]) -> Result<(), PkiError> {
        if self.states().await?.is_empty() {
            return Err(PkiError::NoAuthority(self.path.clone()));
        }
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await.map_err(RecordsError::from)?;
        insert_hosts(&mut change, hosts).await?;
        change.commit().await.map_err(RecordsError::from)?;
        Ok(())
    }

    /// First phase of a rotation: a new authority that is trusted and does not sign yet. Sensors
    /// learn of it when they renew.
    ///
    /// # Errors
    /// Where one waits already, or there is none to replace.
    pub async fn rotate(&self, now_unix_ms: i64) -> Result<Fingerprint, PkiError> {
        let (certificate, key) = Authority::make(now_unix_ms)?;
        let states = self.states().await?;
        if states.is_empty() {
            return Err(PkiError::NoAuthority(self.path.clone()));
        }
        if states.contains(&NEXT) {
            return Err(PkiError::RotationUnderWay);
        }
        let mut connection = self.connection.lock().await;
        insert_authority(&mut connection, &certificate, &key, NEXT, now_unix_ms).await?;
        Ok(sha256(&certificate))
    }

    /// Second phase: the new authority signs, the old one is trusted until [`Self::retire`].
    ///
    /// # Errors
    /// Where none waits, or, unless forced, sensors do not know it yet.
    pub async fn activate(&self, force: bool, now_unix_ms: i64) -> Result<(), PkiError> {
        let authorities = self.authorities().await?;
        let next = authorities.iter().find(|of| of.state() == NEXT);
        let next = next.ok_or(PkiError::NoRotation)?;
        if !force {
            // A certificate from before the new authority came without it.
            self.none_left(
                "have not heard of the new authority",
                "issued_unix_ms < ?",
                next.created_unix_ms(),
                now_unix_ms,
            )
            .await?;
        }
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await.map_err(RecordsError::from)?;
        for (from, to) in [(ISSUING, LEAVING), (NEXT, ISSUING)] {
            sqlx::query("UPDATE authorities SET state = ? WHERE state = ?")
                .bind(to)
                .bind(from)
                .execute(&mut *change)
                .await
                .map_err(RecordsError::from)?;
        }
        change.commit().await.map_err(RecordsError::from)?;
        Ok(())
    }

    /// End of a rotation: old authorities are trusted no more. Gives how many.
    ///
    /// # Errors
    /// Where, unless forced, certificates of theirs are in use.
    pub async fn retire(&self, force: bool, now_unix_ms: i64) -> Result<u64, PkiError> {
        if !force {
            let condition = "authority IN (SELECT id FROM authorities WHERE state = ?)";
            self.none_left(
                "hold certificates of the old authority",
                condition,
                LEAVING,
                now_unix_ms,
            )
            .await?;
        }
        let mut connection = self.connection.lock().await;
        let done = sqlx::query("DELETE FROM authorities WHERE state = ?")
            .bind(LEAVING)
            .execute(&mut *connection)
            .await
            .map_err(RecordsError::from)?;
        Ok(done.rows_affected())
    }

    /// Fails where the latest usable certificate of some sensor meets a condition on `value`.
    async fn none_left(
        &self,
        what: &'static str,
        condition: &'static str,
        value: i64,
        now_unix_ms: i64,
    ) -> Result<(), PkiError> {
        let mut connection = self.connection.lock().await;
        let sql = format!(
            "SELECT sensor FROM (SELECT sensor, issued_unix_ms, authority, max(not_after_unix_ms) \
             AS until FROM certificates WHERE revoked_unix_ms IS NULL GROUP BY sensor) \
             WHERE until >= ? AND {condition} ORDER BY sensor"
        );
        let sensors: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(now_unix_ms - RENEWAL_GRACE_MS)
            .bind(value)
            .fetch_all(&mut *connection)
            .await
            .map_err(RecordsError::from)?;
        if sensors.is_empty() {
            return Ok(());
        }
        Err(PkiError::StillNeeded {
            what,
            sensors: sensors.join(", "),
        })
    }

    async fn states(&self) -> Result<Vec<i64>, RecordsError> {
        let mut connection = self.connection.lock().await;
        Ok(sqlx::query_scalar("SELECT state FROM authorities")
            .fetch_all(&mut *connection)
            .await?)
    }

    /// A new token for a sensor.
    ///
    /// # Errors
    /// Without an authority, or where too many tokens are open.
    pub async fn token(
        &self,
        sensor: &SensorName,
        life_ms: i64,
        now_unix_ms: i64,
    ) -> Result<Token, PkiError> {
        // The one that will be shown by the collector's certificate.
        let authorities = self.authorities().await?;
        let issuing = authorities.iter().find(|of| of.is_issuing());
        let issuing = issuing.ok_or_else(|| PkiError::NoAuthority(self.path.clone()))?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| PkiError::NoRandom)?;
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await.map_err(RecordsError::from)?;
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM tokens WHERE used_unix_ms IS NULL AND expires_unix_ms >= ?",
        )
        .bind(now_unix_ms)
        .fetch_one(&mut *change)
        .await
        .map_err(RecordsError::from)?;
        if open >= TOKENS_MAX {
            return Err(PkiError::Full("1,000 open tokens"));
        }
        sqlx::query("INSERT INTO tokens VALUES (?, ?, ?, NULL)")
            .bind(sha256(&secret).to_vec())
            .bind(sensor.as_str().to_owned())
            .bind(now_unix_ms + life_ms.clamp(0, TOKEN_MS_MAX))
            .execute(&mut *change)
            .await
            .map_err(RecordsError::from)?;
        change.commit().await.map_err(RecordsError::from)?;
        Ok(Token {
            sensor: sensor.as_str().to_owned(),
            authority: sha256(&issuing.certificate()),
            secret,
        })
    }

    /// Uses a token up and notes the certificate given for it. Earlier certificates of the sensor
    /// are taken back: whoever enrols anew has another key.
    ///
    /// # Errors
    /// [`PkiError::Token`] for one that is unknown, used, too old or for another sensor.
    pub async fn redeem(
        &self,
        hash: &Fingerprint,
        sensor: &SensorName,
        issued: &Issued,
        now_unix_ms: i64,
    ) -> Result<(), PkiError> {
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await.map_err(RecordsError::from)?;
        let used = sqlx::query(
            "UPDATE tokens SET used_unix_ms = ?1 WHERE hash = ?2 AND sensor = ?3 \
             AND used_unix_ms IS NULL AND expires_unix_ms >= ?1",
        )
        .bind(now_unix_ms)
        .bind(hash.to_vec())
        .bind(sensor.as_str().to_owned())
        .execute(&mut *change)
        .await
        .map_err(RecordsError::from)?;
        if used.rows_affected() != 1 {
            return Err(PkiError::Token);
        }
        revoke(&mut change, sensor, now_unix_ms).await?;
        insert_certificate(&mut change, sensor, issued).await?;
        change.commit().await.map_err(RecordsError::from)?;
        Ok(())
    }

    /// Notes the certificate that follows another of the same key.
    ///
    /// # Errors
    /// [`PkiError::OtherKey`] where the key is another, or the one before was taken back.
    pub async fn renew(
        &self,
        certificate: &Fingerprint,
        sensor: &SensorName,
        issued: &Issued,
    ) -> Result<(), PkiError> {
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await.map_err(RecordsError::from)?;
        let same: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM certificates WHERE fingerprint = ? AND sensor = ? \
             AND public_key = ? AND revoked_unix_ms IS NULL AND not_after_unix_ms >= ?",
        )
        .bind(certificate.to_vec())
        .bind(sensor.as_str().to_owned())
        .bind(issued.public_key.to_vec())
        .bind(issued.issued_unix_ms - RENEWAL_GRACE_MS)
        .fetch_one(&mut *change)
        .await
        .map_err(RecordsError::from)?;
        if same != 1 {
            return Err(PkiError::OtherKey);
        }
        insert_certificate(&mut change, sensor, issued).await?;
        change.commit().await.map_err(RecordsError::from)?;
        Ok(())
    }

    /// Takes back every certificate and token of a sensor. Gives how many certificates.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn revoke(&self, sensor: &SensorName, now_unix_ms: i64) -> Result<u64, RecordsError> {
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await?;
        sqlx::query("DELETE FROM tokens WHERE sensor = ? AND used_unix_ms IS NULL")
            .bind(sensor.as_str().to_owned())
            .execute(&mut *change)
            .await?;
        let revoked = revoke(&mut change, sensor, now_unix_ms).await?;
        change.commit().await?;
        Ok(revoked)
    }

    /// Sensors with their latest certificate, and open tokens.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn list(&self, now_unix_ms: i64) -> Result<Vec<Listed>, RecordsError> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT sensor, 'token', expires_unix_ms FROM tokens \
             WHERE used_unix_ms IS NULL AND expires_unix_ms >= ?1 \
             UNION ALL SELECT sensor, CASE WHEN revoked_unix_ms IS NOT NULL THEN 'revoked' \
             WHEN until < ?1 THEN 'expired' ELSE 'certificate' END, until FROM \
             (SELECT sensor, revoked_unix_ms, max(not_after_unix_ms) AS until FROM certificates \
             GROUP BY sensor) ORDER BY 1, 3",
        )
        .bind(now_unix_ms)
        .fetch_all(&mut *connection)
        .await?;
        rows.iter()
            .map(|row| {
                let state: String = row.try_get(1)?;
                let states = ["token", "certificate", "expired", "revoked"];
                Ok(Listed {
                    sensor: row.try_get(0)?,
                    state: states
                        .into_iter()
                        .find(|of| *of == state)
                        .ok_or(RecordsError::Damaged("state"))?,
                    until_unix_ms: row.try_get(2)?,
                })
            })
            .collect()
    }

    /// Removes what is of no use any more.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn tidy(&self, now_unix_ms: i64) -> Result<(), RecordsError> {
        let mut connection = self.connection.lock().await;
        for sql in [
            "DELETE FROM certificates WHERE not_after_unix_ms < ?",
            "DELETE FROM tokens WHERE expires_unix_ms < ?",
        ] {
            sqlx::query(sql)
                .bind(now_unix_ms - RENEWAL_GRACE_MS)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

async fn insert_authority(
    connection: &mut SqliteConnection,
    certificate: &[u8],
    key_pem: &str,
    state: i64,
    now_unix_ms: i64,
) -> Result<(), RecordsError> {
    sqlx::query("INSERT INTO authorities VALUES (NULL, ?, ?, ?, ?)")
        .bind(certificate.to_vec())
        .bind(key_pem.to_owned())
        .bind(state)
        .bind(now_unix_ms)
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_hosts(connection: &mut SqliteConnection, hosts: &[String]) -> Result<(), PkiError> {
    for host in hosts {
        authority::alternative(host)?;
        sqlx::query("INSERT OR IGNORE INTO hosts VALUES (?)")
            .bind(host.clone())
            .execute(&mut *connection)
            .await
            .map_err(RecordsError::from)?;
    }
    Ok(())
}

async fn insert_certificate(
    connection: &mut SqliteConnection,
    sensor: &SensorName,
    issued: &Issued,
) -> Result<(), PkiError> {
    let held: i64 = sqlx::query_scalar("SELECT count(*) FROM certificates")
        .fetch_one(&mut *connection)
        .await
        .map_err(RecordsError::from)?;
    if held >= CERTIFICATES_MAX {
        return Err(PkiError::Full("10,000 certificates"));
    }
    sqlx::query("INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, NULL)")
        .bind(issued.fingerprint().to_vec())
        .bind(sensor.as_str().to_owned())
        .bind(issued.public_key.to_vec())
        .bind(issued.authority)
        .bind(issued.issued_unix_ms)
        .bind(issued.not_after_unix_ms)
        .execute(connection)
        .await
        .map_err(RecordsError::from)?;
    Ok(())
}

async fn revoke(
    connection: &mut SqliteConnection,
    sensor: &SensorName,
    now_unix_ms: i64,
) -> Result<u64, RecordsError> {
    let done = sqlx::query(
        "UPDATE certificates SET revoked_unix_ms = ? WHERE sensor = ? AND revoked_unix_ms IS NULL",
    )
    .bind(now_unix_ms)
    .bind(sensor.as_str().to_owned())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
