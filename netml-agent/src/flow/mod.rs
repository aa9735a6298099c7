//! Flows and their features.
//!
//! Packet records come in, rows of features go out. [`lru`] bounds every table, [`wheel`] tells
//! which flow must be looked at, [`state`] and [`host`] hold what is counted, [`features`] turns it
//! into a row in the order of [`schema`].

pub mod beside;
pub mod decay;
pub mod features;
pub mod host;
pub mod key;
pub mod lru;
pub mod schema;
pub mod state;
pub mod wheel;

pub use schema::{FEATURES, Family, FeatureSpec};
