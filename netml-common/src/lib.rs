//! What the kernel programs and user space must agree on, and nothing else.
//!
//! - [`record`]: the fixed-layout record that travels through the ring.
//! - [`extras`]: what some packets have beside it: tunnel ends, a quoted flow, DNS numbers.
//! - [`mod@walk`]: the header walk. One source serves the kernel programs, capture files and tests.
//! - [`loss`]: every reason for which a packet is counted and not passed on.
//! - [`counters`]: the exact totals the kernel keeps per interface and direction.
//! - [`flow_map`]: keys and values of the kernel's flow map, and the mode of the programs.
//! - [`knobs`]: what the loader writes before it attaches.
//!
//! The crate does no I/O, allocates nothing and holds no `unsafe`.
#![no_std]
#![forbid(unsafe_code)]

pub mod counters;
pub mod extras;
pub mod flow_map;
pub mod knobs;
pub mod loss;
pub mod record;
pub mod walk;

pub use counters::{INTERFACES_MAX, InterfaceCounters, ProtocolClass};
pub use extras::{DnsRecord, Extras, QuotedRecord, TunnelKind, TunnelRecord};
pub use flow_map::{FlowEntry, FlowKey, Keyed, Network, StepDown};
pub use loss::{KERNEL_LOSS_REASONS, LOSS_REASONS, LossReason};
pub use record::{Direction, Marks, PACKET_RECORD_BYTES, PacketRecord, RecordError};
pub use walk::{HeaderBytes, Link, Parsed, Walked, walk, walk_into, walk_with_extras};
