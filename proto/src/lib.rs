//! Generated types of `netml/v1/*.proto`, the protocol between sensor and collector.
//!
//! The `.proto` files are the documentation; of the protocol nothing here is written by hand but the
//! limits that both sides check and the text form of a [`token`]. Beside it stands what else both
//! programs share: [`daemon`].

pub mod daemon;
pub mod token;

/// Version 1 of the protocol.
#[expect(missing_docs, reason = "generated; documented in the .proto file")]
#[expect(clippy::all, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("netml.v1");
}

/// Largest encoded [`v1::Batch`] either side accepts, in bytes; a larger one is refused and counted.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most records in one [`v1::Batch`].
pub const BATCH_RECORDS_MAX: usize = 1_000;

/// Most streams of which a [`v1::Hello`] tells how far other collectors have them.
pub const STREAMS_MAX: usize = 128;

/// Newest protocol version that is spoken. It rises with what an older peer would take for something
/// else; fields, records and messages that are new and can be left out do not raise it.
pub const PROTOCOL_VERSION: u32 = 1;

/// Oldest protocol version that is spoken.
pub const PROTOCOL_VERSION_MIN: u32 = 1;
