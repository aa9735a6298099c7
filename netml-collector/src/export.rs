//! Packets, flows or events of a time range into a file: CSV, NDJSON or Parquet.
//!
//! Rows are read page by page, newest first, and written as they come: memory does not grow with them.
//! CSV and NDJSON are those of the API's exports. Parquet has the columns of the CSV: whole numbers,
//! decimal numbers, text; what is an object or a list is its JSON; null is null.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, GzipLevel, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use serde::Serialize;
use serde_json::Value;

use crate::store::{Filter, PAGE_ROWS_MAX, PageRequest, RowId, Store, StoreError};
use crate::web::export::{Columns, Format, encode};
use crate::web::view::{EventItem, FlowItem, PacketItem};

/// Rows of one row group of Parquet, which are held in memory: about 30 MB of flows.
const GROUP_ROWS: usize = 16_384;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Packet samples.
    Packets,
    /// Flows.
    Flows,
    /// Events.
    Events,
}

/// As what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 4180.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// By column, compressed.
    Parquet,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Reading.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Writing.
    #[error("{0}")]
    Write(#[from] std::io::Error),
    /// Writing Parquet.
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    /// A row has no form in the file.
    #[error("a row could not be encoded")]
    Encoding,
}

/// Writes the rows that a filter admits; gives their number.
///
/// # Errors
/// When a row cannot be read or written; what was written until then is no whole export.
pub async fn export(
    store: &dyn Store,
    table: Table,
    kind: Kind,
    filter: &Filter,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let mut before = RowId::END;
    match table {
        Table::Packets => {
            let mut sink = Sink::<PacketItem>::new(kind, out)?;
            loop {
                let page = store.packets(filter, of(before)).await?;
                sink.write(page.rows.iter().map(Into::into).collect())?;
                match page.next {
                    Some(next) => before = next,
                    None => return sink.finish(),
                }
            }
        }
        Table::Flows => {
            let mut sink = Sink::<FlowItem>::new(kind, out)?;
            loop {
                let page = store.flows(filter, of(before)).await?;
                sink.write(page.rows.iter().map(Into::into).collect())?;
                match page.next {
                    Some(next) => before = next,
                    None => return sink.finish(),
                }
            }
        }
        Table::Events => {
            let mut sink = Sink::<EventItem>::new(kind, out)?;
            loop {
                let page = store.events(filter, of(before)).await?;
                sink.write(page.rows.iter().map(Into::into).collect())?;
                match page.next {
                    Some(next) => before = next,
                    None => return sink.finish(),
                }
            }
        }
    }
}

fn of(before: RowId) -> PageRequest {
    PageRequest {
        before,
        limit: PAGE_ROWS_MAX,
    }
}

/// Where rows go.
enum Sink<'a, T> {
    Text {
        out: &'a mut (dyn Write + Send),
        format: Format,
        rows: u64,
        first: bool,
    },
    Parquet {
        writer: Box<SerializedFileWriter<&'a mut (dyn Write + Send)>>,
        waiting: Vec<T>,
        rows: u64,
    },
}

impl<'a, T: Serialize + Columns> Sink<'a, T> {
    fn new(kind: Kind, out: &'a mut (dyn Write + Send)) -> Result<Self, ExportError> {
        let text = |out, format| Self::Text {
            out,
            format,
            rows: 0,
            first: true,
        };
        Ok(match kind {
            Kind::Csv => text(out, Format::Csv),
            Kind::Ndjson => text(out, Format::Ndjson),
            Kind::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::GZIP(GzipLevel::default()))
                    .set_created_by("netml".to_owned())
                    .build();
                Self::Parquet {
                    writer: Box::new(SerializedFileWriter::new(
                        out,
                        schema::<T>()?,
                        Arc::new(properties),
                    )?),
                    waiting: Vec::new(),
                    rows: 0,
                }
            }
        })
    }

    fn write(&mut self, items: Vec<T>) -> Result<(), ExportError> {
        match self {
            Self::Text {
                out,
                format,
                rows,
                first,
            } => {
                let text = encode(&items, *format, *first).map_err(|_| ExportError::Encoding)?;
                out.write_all(text.as_bytes())?;
                *first = false;
                *rows += items.len() as u64;
            }
            Self::Parquet {
                writer,
                waiting,
                rows,
            } => {
                *rows += items.len() as u64;
                waiting.extend(items);
                if waiting.len() >= GROUP_ROWS {
                    write_group(writer, waiting)?;
                    waiting.clear();
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<u64, ExportError> {
        match self {
            Self::Text { out, rows, .. } => {
                out.flush()?;
                Ok(rows)
            }
            Self::Parquet {
                mut writer,
                waiting,
                rows,
            } => {
                if !waiting.is_empty() {
                    write_group(&mut writer, &waiting)?;
                }
                (*writer).into_inner()?.flush()?;
                Ok(rows)
            }
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Whole,
    Decimal,
    Text,
}

/// What a column of any table holds, by its name.
fn holds(column: &str) -> Holds {
    match column {
        "unix_ms" | "first_unix_ms" | "last_unix_ms" | "src_port" | "dst_port" | "bytes"
        | "segments" | "fwd_packets" | "rev_packets" | "fwd_bytes" | "rev_bytes"
        | "lost_meanwhile" | "unrecorded_packets" | "icmp_errors" => Holds::Whole,
        "probability" | "score" | "forest_score" | "expected_false_alarms_per_day" => {
            Holds::Decimal
        }
        _ => Holds::Text,
    }
}

fn schema<T: Columns>() -> Result<TypePtr, ParquetError> {
    let mut fields = Vec::new();
    for column in T::COLUMNS {
        let (physical, converted) = match holds(column) {
            Holds::Whole => (Physical::INT64, ConvertedType::NONE),
            Holds::Decimal => (Physical::DOUBLE, ConvertedType::NONE),
            Holds::Text => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
        };
        let field = Type::primitive_type_builder(column, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_converted_type(converted)
            .build()?;
        fields.push(Arc::new(field));
    }
    let root = Type::group_type_builder("netml").with_fields(fields);
    Ok(Arc::new(root.build()?))
}

fn write_group<T: Serialize + Columns>(
    writer: &mut SerializedFileWriter<&mut (dyn Write + Send)>,
    items: &[T],
) -> Result<(), ExportError> {
    let rows: Vec<Value> = items
        .iter()
        .map(|item| serde_json::to_value(item).map_err(|_| ExportError::Encoding))
        .collect::<Result<_, _>>()?;
    let mut group = writer.next_row_group()?;
    for column in T::COLUMNS {
        let values = rows
            .iter()
            .map(|row| row.get(*column).unwrap_or(&Value::Null));
        match holds(column) {
            Holds::Whole => {
                let values: Vec<Option<i64>> = values.map(Value::as_i64).collect();
                write_column::<Int64Type>(&mut group, &values)?;
            }
            Holds::Decimal => {
                let values: Vec<Option<f64>> = values.map(Value::as_f64).collect();
                write_column::<DoubleType>(&mut group, &values)?;
            }
            Holds::Text => {
                let values: Vec<Option<ByteArray>> = values.map(text).collect();
                write_column::<ByteArrayType>(&mut group, &values)?;
            }
        }
    }
    group.close()?;
    Ok(())
}

fn text(value: &Value) -> Option<ByteArray> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(ByteArray::from(text.as_str())),
        other => Some(ByteArray::from(other.to_string().as_str())),
    }
}

fn write_column<T: DataType>(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, &mut (dyn Write + Send)>,
    values: &[Option<T::T>],
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("more columns than the schema has".into());
    let present: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
    let values: Vec<T::T> = values.iter().flatten().cloned().collect();
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column
        .typed::<T>()
        .write_batch(&values, Some(&present), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;
    use crate::store::Range;
    use crate::store::memory::MemoryStore;

    async fn exported(table: Table, kind: Kind, filter: &Filter) -> (u64, Vec<u8>) {
        let store = MemoryStore::default();
        for (group, at) in crate::store::conformance::story() {
            store.append(&group, at).await.unwrap();
        }
        let mut out = Vec::new();
        let rows = export(&store, table, kind, filter, &mut out).await.unwrap();
        (rows, out)
    }

    #[tokio::test]
    async fn parquet_holds_what_ndjson_holds() {
        for table in [Table::Packets, Table::Flows, Table::Events] {
            let (rows, ndjson) = exported(table, Kind::Ndjson, &Filter::default()).await;
            let (parquet_rows, bytes) = exported(table, Kind::Parquet, &Filter::default()).await;
            let objects: Vec<Value> = String::from_utf8(ndjson)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(rows, objects.len() as u64);
            assert_eq!(parquet_rows, rows);
            assert!(rows > 5);
            let reader = SerializedFileReader::new(axum::body::Bytes::from(bytes)).unwrap();
            let read: Vec<_> = reader
                .get_row_iter(None)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(read.len(), objects.len());
            for (row, object) in read.iter().zip(&objects) {
                for (name, field) in row.get_column_iter() {
                    let value = &object[name];
                    let same = match field {
                        Field::Null => value.is_null(),
                        Field::Long(n) => value.as_i64() == Some(*n),
                        Field::Double(n) => value.as_f64() == Some(*n),
                        Field::Str(text) => match value {
                            Value::String(expected) => text == expected,
                            Value::Array(_) | Value::Object(_) => serde_json::from_str(text)
                                .is_ok_and(|parsed: Value| parsed == *value),
                            _ => false,
                        },
                        _ => false,
                    };
                    assert!(same, "{name}: {field:?} for {value}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_range_of_time_is_exported_and_nothing_else() {
        let all = exported(Table::Packets, Kind::Csv, &Filter::default()).await;
        let from_unix_s = crate::store::conformance::START_S + 10;
        let filter = Filter {
            seen: Some(Range {
                from_unix_s,
                to_unix_s: from_unix_s + 10,
            }),
            ..Filter::default()
        };
        let (rows, csv) = exported(Table::Packets, Kind::Csv, &filter).await;
        assert!(rows > 0 && rows < all.0);
        let lines = String::from_utf8(csv).unwrap();
        assert_eq!(lines.lines().count() as u64, rows + 1, "a header");
    }
}
