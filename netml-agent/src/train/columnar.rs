//! The feature table as Parquet, for tools that read columns.
//!
//! The same columns as the CSV, in its order: text as UTF-8, flags as booleans, counts as unsigned
//! integers, features as 32-bit floats; a rule is null where none speaks. The schema's digest stands
//! in the file's metadata as `netml.schema`, the number of the table's format as `netml.table`. The
//! same rows give the same bytes.

use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, GzipLevel, Repetition, Type as Physical};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::table::{META_COLUMNS, Row, TABLE_FORMAT, Table};
use crate::flow::schema::{self, FEATURE_SPECS};

/// Rows of one row group.
const GROUP_ROWS: usize = 65_536;

/// What the file begins and ends with.
pub const MAGIC: &[u8] = b"PAR1";

/// The bytes of the file.
///
/// # Errors
/// None that a table causes; what the writer gives.
pub(super) fn to_bytes(table: &Table) -> Result<Vec<u8>, ParquetError> {
    let meta = [
        ("netml.table", TABLE_FORMAT.to_string()),
        ("netml.schema", schema::digest()),
    ];
    let meta = meta.map(|(key, value)| KeyValue::new(key.to_string(), value));
    let properties = WriterProperties::builder()
        .set_compression(Compression::GZIP(GzipLevel::default()))
        // Not the version of a library: the same table is the same file.
        .set_created_by("netml".to_string())
        .set_key_value_metadata(Some(meta.to_vec()))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), file_schema()?, Arc::new(properties))?;
    for rows in table.rows.chunks(GROUP_ROWS) {
        let mut group = writer.next_row_group()?;
        write_meta(&mut group, table, rows)?;
        for feature in 0..FEATURE_SPECS.len() {
            let values: Vec<f32> = rows.iter().map(|row| row.features[feature]).collect();
            column::<FloatType>(&mut group, &values, None)?;
        }
        group.close()?;
    }
    writer.into_inner()
}

/// Columns in the order of [`META_COLUMNS`], then the features.
fn file_schema() -> Result<TypePtr, ParquetError> {
    use ConvertedType::{NONE, UINT_32, UINT_64, UTF8};
    let of = |name: &str| match name {
        "attack" | "fit" => (Physical::BOOLEAN, NONE),
        "flow" | "host" => (Physical::INT32, UINT_32),
        "packets" | "time_ms" => (Physical::INT64, UINT_64),
        "stands_for" => (Physical::FLOAT, NONE),
        _ => (Physical::BYTE_ARRAY, UTF8),
    };
    let metas = META_COLUMNS.iter().map(|name| (*name, of(name)));
    let features = FEATURE_SPECS
        .iter()
        .map(|spec| (spec.name, (Physical::FLOAT, NONE)));
    let mut fields = Vec::new();
    for (name, (physical, converted)) in metas.chain(features) {
        let repetition = if name == "rule" {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_converted_type(converted)
            .build()?;
        fields.push(Arc::new(field));
    }
    let root = Type::group_type_builder("netml_features").with_fields(fields);
    Ok(Arc::new(root.build()?))
}

type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

/// Writes the next column; `present` tells where an optional one has a value.
fn column<T: DataType>(
    group: &mut Group<'_>,
    values: &[T::T],
    present: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("more columns than the schema has".into());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, present, None)?;
    column.close()
}

fn text(values: impl Iterator<Item = impl AsRef<str>>) -> Vec<ByteArray> {
    values
        .map(|value| ByteArray::from(value.as_ref()))
        .collect()
}

fn write_meta(group: &mut Group<'_>, table: &Table, rows: &[Row]) -> Result<(), ParquetError> {
    let names = |of: &dyn Fn(&Row) -> String| text(rows.iter().map(of));
    // Unsigned numbers are stored in the bits of signed ones.
    let small = |of: fn(&Row) -> u32| -> Vec<i32> {
        rows.iter().map(|row| of(row).cast_signed()).collect()
    };
    let large = |of: fn(&Row) -> u64| -> Vec<i64> {
        rows.iter().map(|row| of(row).cast_signed()).collect()
    };
    let flags = |of: fn(&Row) -> bool| -> Vec<bool> { rows.iter().map(of).collect() };
    for name in META_COLUMNS {
        match name {
            "capture" => {
                let values = names(&|row| table.captures.name(row.capture).to_string());
                column::<ByteArrayType>(group, &values, None)?;
            }
            "group" => {
                let values = names(&|row| table.groups.name(row.group).to_string());
                column::<ByteArrayType>(group, &values, None)?;
            }
            "kind" => {
                let values = names(&|row| table.kinds.name(row.kind).to_string());
                column::<ByteArrayType>(group, &values, None)?;
            }
            "quality" => {
                let values = names(&|row| row.quality.to_string());
                column::<ByteArrayType>(group, &values, None)?;
            }
            "rule" => {
                let values = text(
                    rows.iter()
                        .filter_map(|row| row.rule)
                        .map(|rule| rule.name()),
                );
                let present: Vec<i16> = rows.iter().map(|row| row.rule.is_some().into()).collect();
                column::<ByteArrayType>(group, &values, Some(&present))?;
            }
            "attack" => column::<BoolType>(group, &flags(|row| row.attack), None)?,
            "fit" => column::<BoolType>(group, &flags(|row| row.fit), None)?,
            "flow" => column::<Int32Type>(group, &small(|row| row.flow), None)?,
            "host" => column::<Int32Type>(group, &small(|row| row.host), None)?,
            "packets" => column::<Int64Type>(group, &large(|row| row.packets), None)?,
            "time_ms" => column::<Int64Type>(group, &large(|row| row.time_ms), None)?,
            "stands_for" => {
                let values: Vec<f32> = rows.iter().map(|row| row.stands_for).collect();
                column::<FloatType>(group, &values, None)?;
            }
            other => return Err(ParquetError::General(format!("no column {other}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "columnar_tests.rs"]
mod tests;
