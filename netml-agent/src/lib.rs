//! The sensor: packet records in, flows with verdicts out.
//!
//! Data flows one way: [`probe`] or [`capture_file`] give packet records; [`engine`] puts them into
//! [`flow`]s, computes features at the evaluation points, asks the [`model`], compares with the [`baseline`] of its hosts and gives flows and
//! packets with verdicts to a sink; [`export`] carries those to the collector. [`train`] makes the
//! model out of the very same features. `flow`, `model`, `baseline` and `engine` hold no socket, file, clock
//! or thread.

pub mod baseline;
pub mod capture_file;
pub mod commands;
pub mod diagnose;
pub mod doctor;
pub mod engine;
pub mod export;
pub mod flow;
pub mod health;
pub mod model;
pub mod probe;
pub mod rules;
pub mod spool;
pub mod sys;
#[cfg(feature = "train")]
pub mod train;
pub mod verdict;
