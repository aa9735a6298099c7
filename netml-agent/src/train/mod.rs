//! Captures and labels to feature tables, feature tables to models, models to reports.
