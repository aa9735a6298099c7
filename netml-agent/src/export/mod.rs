//! Batches of records to the collector, acknowledged.
