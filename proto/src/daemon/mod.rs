//! What both programs owe those who run them: metrics ([`exposition`]), a judgement whether their
//! loops make progress ([`progress`]), what they use ([`usage`]), and word to the service manager
//! ([`notify`]).
//!
//! No part of the protocol; it stands here because this is the crate both programs share.

pub mod exposition;
pub mod notify;
pub mod progress;
pub mod usage;
