//! `enroll`: the certificate by which a collector knows this sensor.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use netml_proto::token::Token;

use super::Misuse;
use crate::export::transport;

/// Arguments of `enroll`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the collector takes sensors
    #[arg(long, value_name = "URL")]
    pub collector: String,
    /// What `netml-collector enroll token` printed; `-` reads it from standard input, so that it
    /// stands in no list of processes
    #[arg(long, value_name = "TOKEN")]
    pub token: String,
    /// File for key and certificate; made, or with --replace replaced
    #[arg(long, value_name = "FILE")]
    pub identity: PathBuf,
    /// Replace an identity file that is there
    #[arg(long)]
    pub replace: bool,
}

/// Makes a key, gets a certificate for it, writes both.
///
/// # Errors
/// Where the token or the URL is none, the collector refuses, or the file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let text = if args.token == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read the token")?
    } else {
        args.token.clone()
    };
    let token = Token::parse(&text).ok_or_else(|| {
        anyhow!(Misuse(
            "--token takes what `netml-collector enroll token` printed, whole".into()
        ))
    })?;
    if !args.replace && args.identity.exists() {
        bail!(Misuse(format!(
            "{} is there already; --replace gives it up",
            args.identity.display()
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let credentials = runtime
        .block_on(transport::enroll(&args.collector, &token))
        .map_err(|error| anyhow!("cannot enrol with {}: {error}", args.collector))?;
    credentials.write(&args.identity)?;
    println!(
        "enrolled as {}; run: netml-agent run --collector {} --identity {}",
        credentials.sensor,
        args.collector,
        args.identity.display()
    );
    Ok(())
}
