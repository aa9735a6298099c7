//! From sensors' streams to the store.
//!
//! Pure: [`check`] judges what came ([`reasons`] counts what it refuses whole), [`clock_offset`] measures sensors' clocks, [`sequence`] tells new records from resent ones,
//! [`commands`] keeps what sensors answered. Shell: [`service`] speaks gRPC, [`registry`] knows
//! who is connected, [`connections`] bounds sockets and speaks TLS, [`enrolment`] gives certificates,
//! [`committer`] groups batches into transactions.

pub mod books;
pub mod check;
pub mod clock_offset;
pub mod commands;
pub mod committer;
pub mod connections;
pub mod enrolment;
pub mod reasons;
pub mod registry;
pub mod sequence;
pub mod service;
pub mod target;
