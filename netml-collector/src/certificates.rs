//! Commands on `pki.db`: they work beside a running collector, which takes changes up by itself.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use netml_collector::clock;
use netml_collector::pki::records::{Records, TOKEN_MS_MAX};
use netml_collector::pki::{PkiError, records};
use netml_collector::record::SensorName;
use netml_proto::token::hex;

/// Arguments that cannot be meant: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(pub(crate) String);

/// `netml-collector ca`.
#[derive(Subcommand)]
pub(crate) enum CaCommand {
    /// Makes the authority; from the next start on sensors need certificates.
    Init {
        /// Name or address by which sensors reach this collector, may be repeated.
        #[arg(long, value_name = "HOST", required = true)]
        host: Vec<String>,
        #[command(flatten)]
        data: Data,
    },
    /// Adds names or addresses by which sensors reach this collector.
    Host {
        /// Name or address.
        #[arg(value_name = "HOST", required = true)]
        host: Vec<String>,
        #[command(flatten)]
        data: Data,
    },
    /// Prints the certificates of all authorities (PEM), for browsers that are to trust the dashboard
    /// of `serve --web-tls`.
    Certificate(Data),
    /// Rotation, first phase: makes a new authority, of which sensors learn when they renew.
    Rotate(Data),
    /// Rotation, second phase: the new authority signs. Refused while a sensor does not know it.
    Activate(Forced),
    /// End of a rotation: the old authority is trusted no more. Refused while a sensor needs it.
    Retire(Forced),
}

/// `netml-collector enroll`.
#[derive(Subcommand)]
pub(crate) enum EnrollCommand {
    /// Prints a token with which one sensor can enrol, once.
    Token {
        /// Name of the sensor: letters, digits, `.`, `_`, `-`.
        #[arg(long, value_name = "SENSOR")]
        name: String,
        /// How long the token is good for: a number and s, m, h or d, at most 30d.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        ttl: String,
        #[command(flatten)]
        data: Data,
    },
    /// Lists sensors with their certificates, and open tokens.
    List(Data),
}

/// Where.
#[derive(Args)]
pub(crate) struct Data {
    /// Directory of the database.
    #[arg(long, default_value = "./netml-data")]
    data: PathBuf,
}

/// Where, and whether against advice.
#[derive(Args)]
pub(crate) struct Forced {
    /// Shuts out sensors that are named otherwise.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    data: Data,
}

pub(crate) fn authority(command: &CaCommand) -> anyhow::Result<()> {
    match command {
        CaCommand::Init { host, data } => make(host, &data.data),
        CaCommand::Host { host, data } => add_hosts(host, &data.data),
        CaCommand::Certificate(data) => certificate(&data.data),
        CaCommand::Rotate(data) => rotate(&data.data),
        CaCommand::Activate(forced) => activate(forced),
        CaCommand::Retire(forced) => retire(forced),
    }
}

pub(crate) fn enroll(command: &EnrollCommand) -> anyhow::Result<()> {
    match command {
        EnrollCommand::Token { name, ttl, data } => token(name, ttl, &data.data),
        EnrollCommand::List(data) => list(&data.data),
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn revoke(name: &str, data: &Path) -> anyhow::Result<()> {
    let sensor = sensor(name)?;
    let revoked = records(data)
        .await?
        .revoke(&sensor, clock::unix_ms())
        .await?;
    say(&format!(
        "{sensor} is shut out: certificates revoked: {revoked}"
    ))
}

#[tokio::main(flavor = "current_thread")]
async fn make(hosts: &[String], data: &Path) -> anyhow::Result<()> {
    let records = Records::create(data).await?;
    let fingerprint = misused(records.init(hosts, clock::unix_ms()).await)?;
    say(&format!(
        "authority {} for {}; start the collector anew, then let sensors in: netml-collector enroll token --name SENSOR",
        hex(&fingerprint),
        hosts.join(", ")
    ))
}

#[tokio::main(flavor = "current_thread")]
async fn add_hosts(hosts: &[String], data: &Path) -> anyhow::Result<()> {
    misused(records(data).await?.add_hosts(hosts).await)?;
    say("the collector's certificate has them within 10 s")
}

/// A host that is none is a misuse of the command.
fn misused<T>(done: Result<T, PkiError>) -> anyhow::Result<T> {
    match done {
        Err(PkiError::Signing(error)) => Err(Misuse(format!("HOST: {error}")).into()),
        done => Ok(done?),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn certificate(data: &Path) -> anyhow::Result<()> {
    for authority in records(data).await?.authorities().await? {
        let der = authority.certificate().to_vec();
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", der));
        say(text.trim_end())?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn rotate(data: &Path) -> anyhow::Result<()> {
    let fingerprint = records(data).await?.rotate(clock::unix_ms()).await?;
    say(&format!(
        "new authority {}: sensors learn of it within 5 days; then: netml-collector ca activate",
        hex(&fingerprint)
    ))
}

#[tokio::main(flavor = "current_thread")]
async fn activate(forced: &Forced) -> anyhow::Result<()> {
    let records = records(&forced.data.data).await?;
    records.activate(forced.force, clock::unix_ms()).await?;
    say("the new authority signs; when every sensor has renewed: netml-collector ca retire")
}

#[tokio::main(flavor = "current_thread")]
async fn retire(forced: &Forced) -> anyhow::Result<()> {
    let records = records(&forced.data.data).await?;
    let retired = records.retire(forced.force, clock::unix_ms()).await?;
    say(&format!("authorities no longer trusted: {retired}"))
}

#[tokio::main(flavor = "current_thread")]
async fn token(name: &str, ttl: &str, data: &Path) -> anyhow::Result<()> {
    let sensor = sensor(name)?;
    let life_ms = duration_ms(ttl)?;
    let token = records(data)
        .await?
        .token(&sensor, life_ms, clock::unix_ms())
        .await?;
    say(&token.reveal())
}

#[tokio::main(flavor = "current_thread")]
async fn list(data: &Path) -> anyhow::Result<()> {
    let now_unix_ms = clock::unix_ms();
    for records::Listed {
        sensor,
        state,
        until_unix_ms,
    } in records(data).await?.list(now_unix_ms).await?
    {
        let hours = (until_unix_ms - now_unix_ms) as f64 / 3_600_000.0;
        say(&format!("{sensor:32} {state:12} {hours:8.1} h"))?;
    }
    Ok(())
}

async fn records(data: &Path) -> anyhow::Result<Records> {
    let records = Records::open(data).await?;
    Ok(records.ok_or_else(|| PkiError::NoAuthority(data.to_owned()))?)
}

fn sensor(name: &str) -> Result<SensorName, Misuse> {
    SensorName::parse(name).ok_or_else(|| {
        Misuse(format!(
            "--name takes 1 to {} of letters, digits, `.`, `_` and `-`",
            SensorName::BYTES_MAX
        ))
    })
}

fn duration_ms(text: &str) -> Result<i64, Misuse> {
    let units = [
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let parsed = units.into_iter().find_map(|(unit, ms)| {
        let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
        i64::from(number).checked_mul(ms)
    });
    parsed
        .filter(|ms| (1..=TOKEN_MS_MAX).contains(ms))
        .ok_or_else(|| {
            Misuse(format!(
                "--ttl takes a time like 30m, 1h or 7d, at most 30d, not {:?}",
                text.chars().take(40).collect::<String>()
            ))
        })
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("cannot write to standard output")
}
