//! The collector: takes what sensors stream, stores it durably, and serves the dashboard.
//!
//! Data flows one way: [`ingest`] checks batches and groups them, [`store`] keeps them and
//! answers questions, [`web`] serves answers and the live feed. What flows back to sensors are
//! acknowledgements, given only for what is durable, and commands. [`pki`] says who may speak as
//! which sensor, [`health`] how it all fares.

#![forbid(unsafe_code)]

pub mod clock;
pub mod export;
pub mod health;
pub mod ingest;
pub mod live;
pub mod pki;
pub mod record;
pub mod server;
pub mod store;
pub mod web;
