//! Query parameters, strictly: unknown or repeated names and values out of range are errors, each
//! answered in one line that repeats nothing of the value but its name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::error::ApiError;
use crate::record::{Direction, SensorName, Verdict};
use crate::store::{Dimension, Filter, Order, PAGE_ROWS_MAX, PageRequest, Range, RowId};

/// Rows of a page where the query does not say.
pub const LIMIT_DEFAULT: usize = 100;

/// Longest query string in bytes.
pub const QUERY_BYTES_MAX: usize = 2_048;

/// Range of a traffic or talkers answer where the query does not say.
const RANGE_DEFAULT_MS: i64 = 15 * 60 * 1_000;

/// Longest text of a `kind` or `interface` in bytes.
const TEXT_BYTES_MAX: usize = 128;

/// Last second of the year 9999; later times are refused.
const UNIX_MS_MAX: i64 = 253_402_300_799_999;

/// The parameters of one query. Taking one removes it; what is left at the end is not known.
#[derive(Debug)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Splits a query string.
    ///
    /// # Errors
    /// When it is too long, not UTF-8 or names a parameter twice.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let query = query.unwrap_or_default();
        if query.len() > QUERY_BYTES_MAX {
            return Err(ApiError::bad(format!(
                "the query is longer than {QUERY_BYTES_MAX} bytes"
            )));
        }
        let mut params = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            if params.insert(name, decode(value)?).is_some() {
                return Err(ApiError::bad("a parameter is given twice"));
            }
        }
        Ok(Self(params))
    }

    /// Takes a parameter through a conversion; an empty value is as good as none.
    ///
    /// # Errors
    /// When the conversion gives nothing; `expected` says what it wants.
    pub fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        convert: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match self.0.remove(name).as_deref() {
            None | Some("") => Ok(None),
            Some(value) => convert(value)
                .map(Some)
                .ok_or_else(|| ApiError::bad(format!("parameter {name} must be {expected}"))),
        }
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// When parameters are left that nobody took.
    pub fn end(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ApiError::bad(
                "an unknown parameter is given; /api/openapi.json lists those of each call",
            ))
        }
    }

    /// `limit` and `before`.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn page(&mut self) -> Result<PageRequest, ApiError> {
        Ok(PageRequest {
            limit: self.limit()?,
            before: self
                .take("before", "the `next` of an earlier answer", RowId::parse)?
                .unwrap_or(RowId::END),
        })
    }

    /// `limit`.
    ///
    /// # Errors
    /// When it is out of range.
    pub fn limit(&mut self) -> Result<usize, ApiError> {
        let expected = format!("a number from 1 to {PAGE_ROWS_MAX}");
        let limit = self.take("limit", &expected, |text| {
            number(text).filter(|n| (1..=PAGE_ROWS_MAX).contains(n))
        })?;
        Ok(limit.unwrap_or(LIMIT_DEFAULT))
    }

    /// `from_unix_ms` and `to_unix_ms`; by default the last 15 minutes.
    ///
    /// # Errors
    /// When one is out of range or the range is empty.
    pub fn range(&mut self, now_unix_ms: i64) -> Result<Range, ApiError> {
        let expected = "a time in unix milliseconds";
        let time = |text: &str| number::<i64>(text).filter(|ms| *ms <= UNIX_MS_MAX);
        let to = self.take("to_unix_ms", expected, time)?;
        let to_unix_ms = to.unwrap_or_else(|| now_unix_ms.saturating_add(1_000));
        let from = self.take("from_unix_ms", expected, time)?;
        let from_unix_ms =
            from.unwrap_or_else(|| to_unix_ms.saturating_sub(RANGE_DEFAULT_MS).max(0));
        if from_unix_ms >= to_unix_ms {
            return Err(ApiError::bad("from_unix_ms must be before to_unix_ms"));
        }
        Ok(Range {
            from_unix_s: from_unix_ms.div_euclid(1_000),
            to_unix_s: to_unix_ms.saturating_add(999).div_euclid(1_000),
        })
    }

    /// `sensor`.
    ///
    /// # Errors
    /// When it is no sensor name.
    pub fn sensor(&mut self) -> Result<Option<String>, ApiError> {
        self.take("sensor", "a sensor's name", |text| {
            SensorName::parse(text).map(|name| name.as_str().to_owned())
        })
    }

    /// `interface`.
    ///
    /// # Errors
    /// When it is too long.
    pub fn interface(&mut self) -> Result<Option<String>, ApiError> {
        self.take("interface", "an interface's name", short_text)
    }

    /// The filters of packets.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn packet_filter(&mut self) -> Result<Filter, ApiError> {
        let direction = self.take("direction", "ingress or egress", Direction::of_name)?;
        Ok(Filter {
            direction,
            ..self.common_filter()?
        })
    }

    /// The filters of flows.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn flow_filter(&mut self) -> Result<Filter, ApiError> {
        let kind = self.take("kind", "an attack kind", short_text)?;
        Ok(Filter {
            kind,
            ..self.common_filter()?
        })
    }

    fn common_filter(&mut self) -> Result<Filter, ApiError> {
        let verdicts = "NO_VERDICT, NORMAL, UNSURE or SUSPICIOUS";
        Ok(Filter {
            verdict: self.take("verdict", verdicts, Verdict::of_name)?,
            ip_protocol: self.take(
                "protocol",
                "tcp, udp, icmp, icmpv6 or a number from 0 to 255",
                protocol,
            )?,
            address: self.take("address", "an IPv4 or IPv6 address", |text| {
                text.parse::<IpAddr>().ok().map(|a| a.to_canonical())
            })?,
            port: self.take("port", "a number from 0 to 65535", number)?,
            sensor: self.sensor()?,
            ..Filter::default()
        })
    }

    /// `by`, destinations where the query does not say.
    ///
    /// # Errors
    /// When it is none of the known ones.
    pub fn dimension(&mut self) -> Result<Dimension, ApiError> {
        let by = self.take(
            "by",
            "destination, source, port, protocol or sensor",
            |text| match text {
                "destination" => Some(Dimension::Destination),
                "source" => Some(Dimension::Source),
                "port" => Some(Dimension::Port),
                "protocol" => Some(Dimension::Protocol),
                "sensor" => Some(Dimension::Sensor),
                _ => None,
            },
        )?;
        Ok(by.unwrap_or(Dimension::Destination))
    }

    /// `order`, bytes where the query does not say.
    ///
    /// # Errors
    /// When it is none of the known ones.
    pub fn order(&mut self) -> Result<Order, ApiError> {
        let order = self.take("order", "bytes, packets or flows", |text| match text {
            "bytes" => Some(Order::Bytes),
            "packets" => Some(Order::Packets),
            "flows" => Some(Order::Flows),
            _ => None,
        })?;
        Ok(order.unwrap_or(Order::Bytes))
    }
}

/// Percent-decodes a name or value; `+` is a space.
fn decode(text: &str) -> Result<String, ApiError> {
    let malformed = || ApiError::bad("the query is not valid percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || {
                    let digit = rest.next().and_then(|d| char::from(d).to_digit(16));
                    digit
                        .and_then(|d| u8::try_from(d).ok())
                        .ok_or_else(malformed)
                };
                digit()? * 16 + digit()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

/// A number of plain digits; no sign, no space.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn protocol(text: &str) -> Option<u8> {
    match text {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        _ => number(text),
    }
}

fn short_text(text: &str) -> Option<String> {
    (text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_parameters_become_a_filter() {
        let query = "verdict=SUSPICIOUS&protocol=tcp&address=%3a%3affff:1.2.3.4&port=443&direction=egress&sensor=a&limit=7&before=20261122-9";
        let mut params = Params::parse(Some(query)).unwrap();
        let filter = params.packet_filter().unwrap();
        let page = params.page().unwrap();
        params.end().unwrap();
        assert_eq!(filter.verdict, Some(Verdict::Suspicious));
        assert_eq!(filter.ip_protocol, Some(6));
        assert_eq!(filter.address, Some("1.2.3.4".parse().unwrap()));
        assert_eq!(filter.port, Some(443));
        assert_eq!(filter.direction, Some(Direction::Egress));
        let before = RowId {
            day: 20_261_122,
            row: 9,
        };
        assert_eq!((page.limit, page.before), (7, before));
    }

    #[test]
    fn hostile_values_are_refused() {
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=%2B1",
            "limit=1&limit=2",
            "before=1",
            "before=20261122--1",
            "before=20261122-9999999999999999999",
            "verdict=normal",
            "protocol=256",
            "address=1.2.3",
            "address=1.2.3.4%27%20OR%201=1",
            "port=65536",
            "sensor=%27;DROP%20TABLE%20packets",
            "direction=up",
            "nonsense=1",
            "%ff=1",
            "limit=%zz",
            "limit=%2",
        ] {
            let outcome = Params::parse(Some(query)).and_then(|mut params| {
                params.packet_filter()?;
                params.page()?;
                params.end()
            });
            assert!(outcome.is_err(), "{query}");
        }
        assert!(Params::parse(Some(&"a".repeat(QUERY_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn ranges_are_bounded_and_not_empty() {
        let range = |query| Params::parse(Some(query)).unwrap().range(10_000_000);
        assert_eq!(range("").unwrap().to_unix_s, 10_001);
        assert!(range("from_unix_ms=5&to_unix_ms=5").is_err());
        assert!(range("to_unix_ms=253402300800000").is_err());
        assert_eq!(
            range("from_unix_ms=1500&to_unix_ms=2001").unwrap(),
            Range {
                from_unix_s: 1,
                to_unix_s: 3
            }
        );
    }

    proptest! {
        #[test]
        fn any_query_is_answered_without_a_panic(query in ".{0,200}") {
            if let Ok(mut params) = Params::parse(Some(&query)) {
                drop(params.packet_filter());
                drop(params.page());
            }
        }
    }
}
