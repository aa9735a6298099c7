//! `netml-collector`: arguments, logging, signals, exit codes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use certificates::{CaCommand, EnrollCommand, Misuse};
use clap::{Parser, Subcommand};
use maintenance::DataCommand;
use netml_collector::server::{self, Settings, StartError};
use netml_collector::store::Retention;
use netml_collector::web::guard::Token;
use netml_collector::web::tls::{Files, Scheme};
use service::Service;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

mod certificates;
mod maintenance;
mod service;

/// Stores what sensors see and serves the live dashboard.
#[derive(Parser)]
#[command(name = "netml-collector", version, arg_required_else_help = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes sensors' streams, stores them and serves the dashboard until Ctrl-C or SIGTERM.
    Serve {
        /// Address of the dashboard and its API; port 0 takes any free one.
        #[arg(long, default_value = "127.0.0.1:8080")]
        web: SocketAddr,
        /// PEM file with the certificate by which the dashboard is served over HTTPS, and those it
        /// is signed by; read anew when it changes.
        #[arg(long, value_name = "FILE", requires = "web_key")]
        web_certificate: Option<PathBuf>,
        /// PEM file with the key of that certificate.
        #[arg(long, value_name = "FILE", requires = "web_certificate")]
        web_key: Option<PathBuf>,
        /// Serve the dashboard over HTTPS by a certificate of the collector's own authority
        /// (`ca init`), which browsers have to be told to trust.
        #[arg(long, conflicts_with = "web_certificate")]
        web_tls: bool,
        /// Address where sensors connect; port 0 takes any free one.
        #[arg(long, default_value = "127.0.0.1:8081")]
        grpc: SocketAddr,
        /// Directory of the database; made if it is not there.
        #[arg(long, default_value = "./netml-data")]
        data: PathBuf,
        /// File with the token that allows changes; made if it is not there. Without it every
        /// start has a new token.
        #[arg(long)]
        token_file: Option<PathBuf>,
        /// Days that are kept, of those on which something was received; the oldest goes whole.
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        keep_days: u32,
        /// Bytes of all days that are kept; beyond it the oldest go, whole, but never the latest.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000_000..))]
        keep_bytes: Option<u64>,
    },
    /// The certificate authority by which sensors on other hosts are known.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Lets sensors in.
    #[command(subcommand)]
    Enroll(EnrollCommand),
    #[command(flatten)]
    Data(DataCommand),
    /// Shuts a sensor out: its certificates and tokens are void, within 10 s for one connected.
    Revoke {
        /// The sensor.
        #[arg(long, value_name = "SENSOR")]
        name: String,
        /// Directory of the database.
        #[arg(long, default_value = "./netml-data")]
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            eprintln!(
                "netml-collector: {}; see --help",
                misuse(&error.to_string())
            );
            return ExitCode::from(2);
        }
        // Help or version, asked for.
        Err(asked) => asked.exit(),
    };
    let filter = EnvFilter::try_from_env("NETML_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let done = match arguments.command {
        Command::Serve {
            web,
            web_certificate,
            web_key,
            web_tls,
            grpc,
            data,
            token_file,
            keep_days,
            keep_bytes,
        } => {
            let scheme = match (web_certificate, web_key) {
                (Some(certificate), Some(key)) => Scheme::Given(Files { certificate, key }),
                _ if web_tls => Scheme::Own,
                _ => Scheme::Http,
            };
            let retention = Retention {
                days_max: Some(keep_days),
                bytes_max: keep_bytes,
            };
            serve(web, scheme, grpc, data, token_file.as_deref(), retention)
        }
        Command::Ca(command) => certificates::authority(&command),
        Command::Enroll(command) => certificates::enroll(&command),
        Command::Data(command) => maintenance::run(command),
        Command::Revoke { name, data } => certificates::revoke(&name, &data),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netml-collector: {}", in_one_line(&error));
            let is_misuse = error.is::<Misuse>()
                || matches!(
                    error.downcast_ref::<StartError>(),
                    Some(
                        StartError::NotLoopback(_)
                            | StartError::NoAuthority(_)
                            | StartError::NoOwnAuthority
                    )
                );
            ExitCode::from(if is_misuse { 2 } else { 1 })
        }
    }
}

#[tokio::main]
async fn serve(
    web: SocketAddr,
    scheme: Scheme,
    grpc: SocketAddr,
    data: PathBuf,
    token_file: Option<&Path>,
    retention: Retention,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let token = match token_file {
        Some(path) => token_of(path)?,
        None => Token::random().context("the system gives no random numbers")?,
    };
    let settings = Settings {
        web,
        scheme,
        grpc,
        data: data.clone(),
        token: token.clone(),
        retention,
    };
    let running = server::start(settings).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        web = %running.web,
        grpc = %running.grpc,
        data = %data.display(),
        sensors = if running.has_tls { "mutual TLS" } else { "plain text, this host only" },
        "collector started"
    );
    if !running.web.ip().is_loopback() {
        tracing::warn!(
            web = %running.web,
            "other hosts reach the dashboard: its own files, /healthz and /readyz are open to all; what sensors saw, and changes, to whoever has the token; there are no accounts yet"
        );
    }
    announce(&running, &token).context("cannot write to standard output")?;
    let mut service = Service::of_environment();
    service.ready(&running);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hang_up.recv() => match &running.identity {
                Some(identity) => identity.reload_and_say(),
                None => tracing::info!("SIGHUP: there is nothing to read anew"),
            },
            () = service.pulse(&running) => {}
        }
    }
    service.stopping();
    tracing::info!("stopping: what was taken is being stored");
    running.stop().await;
    tracing::info!("collector stopped");
    Ok(())
}

/// The two lines that those who start the collector read.
fn announce(running: &server::Running, token: &Token) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "dashboard: {}/?token={}",
        running.url(),
        token.reveal()
    )?;
    let scheme = if running.has_tls { "https" } else { "http" };
    writeln!(out, "sensors: {scheme}://{}", running.grpc)?;
    out.flush()
}

/// Reads the token, or makes one that only the user can read.
fn token_of(path: &Path) -> anyhow::Result<Token> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::read_to_string(path) {
        Ok(text) => Token::parse(text.trim()).with_context(|| {
            format!(
                "{} holds no token: 16 to 128 letters, digits, dots, underscores or hyphens; remove it to get a new one",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = Token::random().context("the system gives no random numbers")?;
            std::fs::File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .and_then(|mut file| writeln!(file, "{}", token.reveal()))
                .with_context(|| format!("cannot write the token file {}", path.display()))?;
            Ok(token)
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the token file {}", path.display()))
        }
    }
}

/// What clap says, without its usage text, in one line.
fn misuse(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let said: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let said = said.join(" ");
    said.strip_prefix("error: ").unwrap_or(&said).to_owned()
}

/// An error and its causes in one line. A cause that the text before it tells already is left out.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}
