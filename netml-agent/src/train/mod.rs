//! Captures and labels to feature tables, feature tables to models, models to reports.
//!
//! ```text
//! captures + labels.csv ─ captures ─→ rows ─ dataset ─→ table (.csv.gz or .parquet)
//! table ─ audit, columns ─→ what is doubtful in it: data_report
//! table ─ forest (smartcore, one tree at a time) ─→ trees ─ threshold ─→ model file
//! table ─ validate (groups left out) ─→ report      model + captures ─ evaluate ─→ report
//! ```
//!
//! What splits training from validation is always the *group*: network and lab of origin. Packets
//! and rows of one group are near-copies of each other, and a split by row measures memory.
//! Everything here gives the same bytes on any number of cores.

pub mod audit;
pub mod baseline;
pub mod captures;
pub mod card;
pub mod cells;
pub mod classes;
pub mod columnar;
pub mod columns;
pub mod compare;
pub mod cross;
pub mod data_report;
pub mod dataset;
pub mod evaluate;
pub mod forest;
pub mod importance;
pub mod label_files;
pub mod labels;
pub mod metrics;
pub mod probes;
pub mod random;
#[cfg(test)]
mod reference_tests;
pub mod report;
pub mod search;
pub mod table;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod threshold;
pub mod trainer;
#[cfg(test)]
mod usual_tests;
pub mod validate;
