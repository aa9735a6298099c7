//! Several tables as one, and the groups that train but never judge.
//!
//! Groups and kinds are merged by name, so that one network may be spread over tables. A capture is
//! that of its table: where another one has its name, a number is put behind it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::table::{NameId, ROWS_MAX, Table, TableError};
use crate::flow::FEATURES;

/// Groups whose rows take part in every training fold, and in no held-out fold, threshold,
/// calibration, importance or mean: captures of a lab made for training would flatter.
pub const TRAINING_ONLY: [&str; 1] = ["lab"];

/// One of several tables, for the card of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// "base", "added" to a base, or "table" where there is no base.
    pub role: &'static str,
    /// Digest of the file.
    pub sha256: String,
    /// Its rows.
    pub rows: usize,
    /// Its flows.
    pub flows: usize,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its kinds.
    pub kinds: Vec<String>,
}

impl Table {
    /// True of a group of [`TRAINING_ONLY`].
    #[must_use]
    pub fn is_training_only(&self, group: NameId) -> bool {
        TRAINING_ONLY.contains(&self.groups.name(group))
    }

    /// Groups that are left out in turn.
    #[must_use]
    pub fn judged_groups(&self) -> Vec<NameId> {
        (0..self.groups.all().len() as NameId)
            .filter(|&group| !self.is_training_only(group))
            .collect()
    }

    /// Reads tables and puts them together in the order given. A base comes first, and none of its
    /// groups may be in the others: what is added must be left out of training by itself.
    ///
    /// # Errors
    /// [`TableError`] with the file it is about.
    pub fn read_all(base: Option<&Path>, paths: &[PathBuf]) -> Result<Self, TableError> {
        let (mut all, sources) = Self::read_with_sources(base, paths)?;
        if sources.len() > 1 {
            all.sources = sources;
        }
        Ok(all)
    }

    /// The same, and what each of the tables holds.
    ///
    /// # Errors
    /// [`TableError`] with the file it is about.
    pub fn read_with_sources(
        base: Option<&Path>,
        paths: &[PathBuf],
    ) -> Result<(Self, Vec<Source>), TableError> {
        let mut all = Self::default();
        let mut read: Vec<(&Path, Source)> = Vec::new();
        for path in base.into_iter().chain(paths.iter().map(PathBuf::as_path)) {
            let table = Self::read(path)?;
            let role = match base {
                Some(_) if read.is_empty() => "base",
                Some(_) => "added",
                None => "table",
            };
            let source = Source {
                role,
                sha256: file_digest(path)?,
                rows: table.rows.len(),
                flows: table.flows().len(),
                groups: table.groups.all().to_vec(),
                kinds: table.kinds.all().to_vec(),
            };
            if let Some((first, _)) = read.iter().find(|(_, had)| had.sha256 == source.sha256) {
                return Err(TableError::Twice {
                    path: path.to_path_buf(),
                    first: first.to_path_buf(),
                });
            }
            if role == "added"
                && let Some((base, of_base)) = read.first()
                && let Some(group) = source.groups.iter().find(|g| of_base.groups.contains(g))
            {
                return Err(TableError::GroupOfBase {
                    path: path.to_path_buf(),
                    group: group.clone(),
                    base: base.to_path_buf(),
                });
            }
            if all.rows.len() + table.rows.len() > ROWS_MAX {
                let path = path.to_path_buf();
                return Err(TableError::TooLong { path });
            }
            if read.is_empty() {
                all = table;
            } else {
                all.add(table);
            }
            read.push((path, source));
        }
        Ok((all, read.into_iter().map(|(_, source)| source).collect()))
    }

    /// Adds the rows of another table behind its own.
    pub fn add(&mut self, other: Self) {
        let mut captures = Vec::new();
        for name in other.captures.all() {
            let is_taken = |name: &String| self.captures.all().contains(name);
            let mut free = name.clone();
            let mut number = 2;
            while is_taken(&free) {
                free = format!("{name} ({number})");
                number += 1;
            }
            captures.push(self.captures.id(&free));
        }
        let ids = |into: &mut super::table::Names, names: &[String]| -> Vec<NameId> {
            names.iter().map(|name| into.id(name)).collect()
        };
        let groups = ids(&mut self.groups, other.groups.all());
        let kinds = ids(&mut self.kinds, other.kinds.all());
        let mut rows = other.rows;
        let mut shared = HashSet::new();
        for row in &mut rows {
            row.capture = captures[row.capture as usize];
            row.group = groups[row.group as usize];
            row.kind = kinds[row.kind as usize];
            shared.insert((row.group, row.kind));
        }
        // A vector that its cell has already is not fitted again.
        let vector = |features: &[f32; FEATURES]| features.map(f32::to_bits);
        let known: HashSet<_> = self
            .rows
            .iter()
            .filter(|row| shared.contains(&(row.group, row.kind)))
            .map(|row| (row.group, row.kind, vector(&row.features)))
            .collect();
        for row in &mut rows {
            row.fit &= !known.contains(&(row.group, row.kind, vector(&row.features)));
        }
        self.rows.extend(rows);
    }
}

/// Tells in the card's part on data what each kind has, what several tables gave, and which groups
/// only train.
pub(super) fn tell(table: &Table, data: &mut serde_json::Value) {
    if !table.sources.is_empty() {
        data["tables"] = serde_json::json!(table.sources);
    }
    let mut kinds: BTreeMap<&str, (usize, usize, BTreeSet<&str>)> = BTreeMap::new();
    for flow in table.flows() {
        let row = &table.rows[flow.start];
        let kind = kinds.entry(table.kinds.name(row.kind)).or_default();
        kind.0 += flow.len();
        kind.1 += 1;
        kind.2.insert(table.groups.name(row.group));
    }
    let told = kinds.into_iter().map(|(kind, (rows, flows, groups))| {
        let told = serde_json::json!({ "rows": rows, "flows": flows, "groups": groups });
        (kind.to_string(), told)
    });
    data["by_kind"] = told.collect::<serde_json::Map<_, _>>().into();
    let names = table.groups.all().iter().map(String::as_str);
    let only: Vec<&str> = names.filter(|name| TRAINING_ONLY.contains(name)).collect();
    if !only.is_empty() {
        data["groups_for_training_only"] = serde_json::json!(only);
    }
}

fn file_digest(path: &Path) -> Result<String, TableError> {
    let bytes = std::fs::read(path).map_err(|source| TableError::Io {
        doing: "read",
        path: path.to_path_buf(),
        source,
    })?;
    Ok(crate::model::hex(&Sha256::digest(&bytes)))
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
