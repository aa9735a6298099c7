//! Batches of records to the collector, acknowledged.
//!
//! Data in: what the engine reports, through the sink [`Outbox`] on the reader's thread. Data out:
//! one gRPC stream of numbered batches. The core ([`sampler`], [`batcher`], [`convert`], [`route`]) holds no
//! clock and no socket; the shell ([`outbox`], [`client`], [`spooler`]) does. Sealed
//! batches wait in memory ([`batcher::Batcher`]) or in a [`crate::spool`] on the disk.
//!
//! Invariants: the reader is never made to wait for the network (but by a replay, which asks for
//! it); every record is acknowledged, waiting, or counted as lost; a batch is encoded and
//! checksummed once and resent as it is until it is acknowledged or has to go.
//!
//! Bounds: [`outbox::CHUNKS_MAX`] chunks of [`outbox::CHUNK_OBSERVATIONS`] between the threads,
//! [`batcher::BACKLOG_RECORDS_MAX`] records and [`batcher::BACKLOG_BYTES_MAX`] bytes waiting. At
//! each of them records are given up and counted as `backlog-full`. With a spool its own bounds hold
//! instead, and [`spooler::QUEUED_BYTES_MAX`] between the threads.

use std::sync::Arc;

use netml_proto::v1;

use crate::engine::FlowReport;
use crate::engine::JudgedPacket;
use crate::model::Model;

mod backlog;
pub mod batcher;
pub mod client;
pub mod convert;
pub mod credentials;
pub mod outbox;
pub mod route;
pub mod sampler;
pub mod spooler;
pub mod transport;
pub mod watched;

pub use client::{Client, Delivered, Exporter};
pub use outbox::Outbox;
pub use route::Pace;
pub use transport::Transport;
pub use watched::Watched;

/// Something to be told to the collector.
#[derive(Clone, Debug)]
pub enum Observation {
    /// A flow as it stands.
    Flow(FlowReport),
    /// A sampled packet.
    Packet(JudgedPacket),
    /// Counters, health or an event, complete as they are.
    Record(Box<v1::Record>),
}

/// Observations with the clock they share.
#[derive(Debug)]
pub struct Chunk {
    /// To be added to a monotonic time for unix nanoseconds.
    pub unix_offset_ns: i64,
    /// The model that judged its packets, where it is not the one known from the start.
    pub model: Option<Arc<Model>>,
    /// In the order they were made.
    pub observations: Vec<Observation>,
}
