//! Domain types to columns and back: the only place that knows the order of columns.

use std::net::IpAddr;

use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{Decode, QueryBuilder, Row, Type};

use crate::record::{Direction, Event, Flow, FlowState, Packet, Verdict};
use crate::store::{EventRow, FlowKey, FlowRow, PacketRow, RowId, StoreError};

pub(super) const PACKET_COLUMNS: &str = "id, unix_ns, sensor, stream_id, flow_id, interface, \
     src_ip, dst_ip, src_port, dst_port, ip_protocol, wire_bytes, segments, tcp_flags, direction, \
     verdict, kind, probability";

pub(super) const FLOW_COLUMNS: &str = "id, sensor, stream_id, flow_id, state, end_reason, \
     first_unix_ns, last_unix_ns, src_ip, dst_ip, src_port, dst_port, ip_protocol, interface, \
     fwd_packets, rev_packets, fwd_bytes, rev_bytes, tcp_flags, verdict, kind, probability, score, \
     reasons, model_id, lost_meanwhile, expected_false_alarms_per_day, initiator_direction, \
     unrecorded_packets, rule, forest, forest_score, also_seen_on, tunnel, icmp_errors, icmp_last, \
     dns, baseline";

pub(super) const EVENT_COLUMNS: &str = "id, unix_ns, sensor, kind, severity, message, fields";

/// Rows per insert statement: large ones for few round trips to the database's thread, and only
/// three sizes, since each size is a statement of its own that stays prepared (a large one holds
/// about 100 KB).
const INSERT_SIZES: [usize; 3] = [64, 8, 1];

/// Cuts rows into pieces of the sizes of insert statements.
pub(super) fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = INSERT_SIZES.into_iter().find(|size| *size <= rows.len())?;
        let (piece, rest) = rows.split_at_checked(size)?;
        rows = rest;
        Some(piece)
    })
}

/// Inserts one of the [`pieces`] of packets.
pub(super) fn insert_packets(rows: &[PacketRow]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(format!("INSERT INTO packets ({PACKET_COLUMNS}) "));
    query.push_values(rows, |mut tuple, row| {
        let p = &row.packet;
        tuple
            .push_bind(row.id.row)
            .push_bind(p.unix_ns)
            .push_bind(row.sensor.clone())
            .push_bind(row.flow.stream_id.cast_signed())
            .push_bind(p.flow_id.cast_signed())
            .push_bind(p.interface.clone())
            .push_bind(address_bytes(p.src_ip))
            .push_bind(address_bytes(p.dst_ip))
            .push_bind(p.src_port)
            .push_bind(p.dst_port)
            .push_bind(p.ip_protocol)
            .push_bind(p.wire_bytes)
            .push_bind(p.segments)
            .push_bind(p.tcp_flags)
            .push_bind(p.direction.number())
            .push_bind(p.verdict.number())
            .push_bind(p.kind.clone())
            .push_bind(p.probability);
    });
    query
}

/// Inserts or replaces one of the [`pieces`] of flows.
pub(super) fn upsert_flows(rows: &[FlowRow]) -> Result<QueryBuilder<Sqlite>, StoreError> {
    let texts: Vec<FlowTexts> = rows
        .iter()
        .map(|row| FlowTexts::of(&row.flow))
        .collect::<Result<_, _>>()?;
    let mut query = QueryBuilder::new(format!("INSERT OR REPLACE INTO flows ({FLOW_COLUMNS}) "));
    query.push_values(rows.iter().zip(texts), |mut tuple, (row, texts)| {
        let f = &row.flow;
        tuple
            .push_bind(row.id.row)
            .push_bind(row.sensor.clone())
            .push_bind(row.stream_id.cast_signed())
            .push_bind(f.flow_id.cast_signed())
            .push_bind(f.state.number())
            .push_bind(f.end_reason.clone())
            .push_bind(f.first_unix_ns)
            .push_bind(f.last_unix_ns)
            .push_bind(address_bytes(f.src_ip))
            .push_bind(address_bytes(f.dst_ip))
            .push_bind(f.src_port)
            .push_bind(f.dst_port)
            .push_bind(f.ip_protocol)
            .push_bind(f.interface.clone())
            .push_bind(f.fwd_packets.cast_signed())
            .push_bind(f.rev_packets.cast_signed())
            .push_bind(f.fwd_bytes.cast_signed())
            .push_bind(f.rev_bytes.cast_signed())
            .push_bind(f.tcp_flags)
            .push_bind(f.verdict.number())
            .push_bind(f.kind.clone())
            .push_bind(f.probability)
            .push_bind(f.score)
            .push_bind(texts.reasons)
            .push_bind(f.model_id.clone())
            .push_bind(f.lost_meanwhile.cast_signed())
            .push_bind(f.expected_false_alarms_per_day)
            .push_bind(f.initiator_direction.map(Direction::number))
            .push_bind(f.unrecorded_packets.cast_signed())
            .push_bind(texts.rule)
            .push_bind(f.forest.number())
            .push_bind(f.forest_score)
            .push_bind(texts.also_seen_on)
            .push_bind(texts.tunnel)
            .push_bind(f.icmp_errors)
            .push_bind(texts.icmp_last)
            .push_bind(texts.dns)
            .push_bind(texts.baseline);
    });
    Ok(query)
}

/// The columns of a flow that hold JSON; `None`: nothing to tell.
struct FlowTexts {
    reasons: String,
    rule: Option<String>,
    also_seen_on: Option<String>,
    tunnel: Option<String>,
    icmp_last: Option<String>,
    dns: Option<String>,
    baseline: Option<String>,
}

impl FlowTexts {
    fn of(flow: &Flow) -> Result<Self, StoreError> {
        fn text<T: serde::Serialize>(
            value: Option<&T>,
            what: &'static str,
        ) -> Result<Option<String>, StoreError> {
            value.map(|value| to_json(value, what)).transpose()
        }
        let others = Some(&flow.also_seen_on).filter(|others| !others.is_empty());
        Ok(Self {
            reasons: to_json(&flow.reasons, "reasons")?,
            rule: text(flow.rule.as_ref(), "rule")?,
            also_seen_on: text(others, "also_seen_on")?,
            tunnel: text(flow.tunnel.as_ref(), "tunnel")?,
            icmp_last: text(flow.icmp_last.as_ref(), "icmp_last")?,
            dns: text(flow.dns.as_ref(), "dns")?,
            baseline: text(flow.baseline.as_ref(), "baseline")?,
        })
    }
}

/// Inserts one event.
pub(super) fn insert_event(
    row: &EventRow,
) -> Result<Query<'static, Sqlite, SqliteArguments>, StoreError> {
    Ok(
        sqlx::query("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(row.id.row)
            .bind(row.event.unix_ns)
            .bind(row.sensor.clone())
            .bind(row.event.kind.clone())
            .bind(row.event.severity.clone())
            .bind(row.event.message.clone())
            .bind(to_json(&row.event.fields, "fields")?),
    )
}

/// A packet of day `day`, selected with [`PACKET_COLUMNS`].
pub(super) fn packet(day: u32, row: &SqliteRow) -> Result<PacketRow, StoreError> {
    let mut at = Columns::new(row);
    let id = RowId {
        day,
        row: at.next()?,
    };
    let unix_ns = at.next()?;
    let sensor = at.next()?;
    let stream_id = at.id()?;
    let flow_id = at.id()?;
    Ok(PacketRow {
        id,
        sensor,
        flow: FlowKey { stream_id, flow_id },
        packet: Packet {
            unix_ns,
            flow_id,
            interface: at.next()?,
            src_ip: at.address()?,
            dst_ip: at.address()?,
            src_port: at.next()?,
            dst_port: at.next()?,
            ip_protocol: at.next()?,
            wire_bytes: at.next()?,
            segments: at.next()?,
            tcp_flags: at.next()?,
            direction: at.named(Direction::of_number)?,
            verdict: at.named(Verdict::of_number)?,
            kind: at.next()?,
            probability: at.next()?,
        },
    })
}

/// A flow of day `day`, selected with [`FLOW_COLUMNS`].
pub(super) fn flow(day: u32, row: &SqliteRow) -> Result<FlowRow, StoreError> {
    let mut at = Columns::new(row);
    Ok(FlowRow {
        id: RowId {
            day,
            row: at.next()?,
        },
        sensor: at.next()?,
        stream_id: at.id()?,
        flow: Flow {
            flow_id: at.id()?,
            state: at.named(FlowState::of_number)?,
            end_reason: at.next()?,
            first_unix_ns: at.next()?,
            last_unix_ns: at.next()?,
            src_ip: at.address()?,
            dst_ip: at.address()?,
            src_port: at.next()?,
            dst_port: at.next()?,
            ip_protocol: at.next()?,
            interface: at.next()?,
            fwd_packets: at.count()?,
            rev_packets: at.count()?,
            fwd_bytes: at.count()?,
            rev_bytes: at.count()?,
            tcp_flags: at.next()?,
            verdict: at.named(Verdict::of_number)?,
            kind: at.next()?,
            probability: at.next()?,
            score: at.next()?,
            reasons: from_json(at.next()?, "reasons")?,
            model_id: at.next()?,
            lost_meanwhile: at.count()?,
            expected_false_alarms_per_day: at.next()?,
            initiator_direction: at
                .next::<Option<i32>>()?
                .map(|n| Direction::of_number(n).ok_or(StoreError::Damaged("direction")))
                .transpose()?,
            unrecorded_packets: at.count()?,
            rule: at.json("rule")?,
            forest: at.named(Verdict::of_number)?,
            forest_score: at.next()?,
            also_seen_on: at.json("also_seen_on")?.unwrap_or_default(),
            tunnel: at.json("tunnel")?,
            icmp_errors: at.next()?,
            icmp_last: at.json("icmp_last")?,
            dns: at.json("dns")?,
            baseline: at.json("baseline")?,
        },
    })
}

/// An event of day `day`, selected with [`EVENT_COLUMNS`].
pub(super) fn event(day: u32, row: &SqliteRow) -> Result<EventRow, StoreError> {
    let mut at = Columns::new(row);
    let id = RowId {
        day,
        row: at.next()?,
    };
    let unix_ns = at.next()?;
    Ok(EventRow {
        id,
        sensor: at.next()?,
        event: Event {
            unix_ns,
            kind: at.next()?,
            severity: at.next()?,
            message: at.next()?,
            fields: from_json(at.next()?, "fields")?,
        },
    })
}

/// Reads the columns of a row one after the other.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    index: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn new(row: &'r SqliteRow) -> Self {
        Self { row, index: 0 }
    }

    pub(super) fn next<T: Decode<'r, Sqlite> + Type<Sqlite>>(&mut self) -> Result<T, StoreError> {
        let value = self.row.try_get(self.index)?;
        self.index += 1;
        Ok(value)
    }

    /// An unsigned id kept as the signed value of its bits.
    pub(super) fn id(&mut self) -> Result<u64, StoreError> {
        Ok(self.next::<i64>()?.cast_unsigned())
    }

    /// A count, never negative.
    pub(super) fn count(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.next::<i64>()?).map_err(|_| StoreError::Damaged("count"))
    }

    /// JSON, or null.
    fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        what: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.next::<Option<&str>>()?
            .map(|text| from_json(text, what))
            .transpose()
    }

    pub(super) fn named<T>(&mut self, of_number: fn(i32) -> Option<T>) -> Result<T, StoreError> {
        of_number(self.next()?).ok_or(StoreError::Damaged("value of an enumeration"))
    }

    fn address(&mut self) -> Result<IpAddr, StoreError> {
        let bytes: &[u8] = self.next()?;
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
            .map_err(|_| StoreError::Damaged("address"))
    }
}

/// Four or sixteen bytes in network order.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn to_json<T: serde::Serialize>(
    value: &T,
    what: &'static str,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Unstorable(what))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    text: &str,
    what: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Damaged(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_every_row_once_in_three_sizes() {
        for count in [0, 1, 7, 8, 63, 64, 65, 1_999] {
            let rows: Vec<usize> = (0..count).collect();
            assert!(pieces(&rows).all(|piece| INSERT_SIZES.contains(&piece.len())));
            assert_eq!(pieces(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        }
    }
}
