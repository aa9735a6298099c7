//! Flows and their features: the table, the windows of hosts and pairs, and the feature schema.

pub mod schema;

pub use schema::{FEATURES, Family, FeatureSpec};
