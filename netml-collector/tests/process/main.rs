//! The collector as a process: a made-up sensor streams, the API is asked, the process is killed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the exemption of clippy.toml does not reach their helpers"
)]

mod api;
mod connections;
mod damaged;
mod data;
mod durability;
mod full_disk;
mod harness;
mod health;
mod https;
mod link;
mod link_rates;
mod metrics_reference;
mod proxy;
mod refusals;
mod soak;
mod tls;
mod versions;
