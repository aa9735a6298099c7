//! Metrics in Prometheus' text format, version 0.0.4, from one table.
//!
//! Pure. A table of [`Family`]s names every metric with its type, unit, labels and meaning, and says
//! how its values are read off a snapshot: [`page`] writes the text, [`reference()`] the table of
//! docs/metrics.md. What is not in the table cannot be told, and what is in it is told.
//! [`parse`] reads a page back, strictly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub mod parse;

/// Content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric's values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, and begins anew with the program.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// Its name in the format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of snapshots `S`.
pub struct Family<S: 'static> {
    /// `netml_<program>_<what>_<unit>[_total]`.
    pub name: &'static str,
    /// What its values do.
    pub kind: Kind,
    /// Base unit, or what is counted.
    pub unit: &'static str,
    /// Names of its labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Reads its values.
    pub read: fn(&S, &mut Samples<'_>),
}

/// Takes the values of one metric.
pub struct Samples<'a> {
    name: &'static str,
    labels: &'static [&'static str],
    out: &'a mut String,
}

impl Samples<'_> {
    /// The value of a metric without labels.
    pub fn count(&mut self, value: u64) {
        self.count_of(&[], value);
    }

    /// The same of a number.
    pub fn number(&mut self, value: f64) {
        self.number_of(&[], value);
    }

    /// A value by its labels.
    pub fn count_of(&mut self, labels: &[&str], value: u64) {
        self.line("", labels, None, &value.to_string());
    }

    /// The same of a number.
    pub fn number_of(&mut self, labels: &[&str], value: f64) {
        self.line("", labels, None, &number(value));
    }

    /// All values of a histogram.
    pub fn histogram(&mut self, histogram: &Histogram) {
        let mut below = 0;
        let counts = histogram.counts.iter().map(|c| c.load(Ordering::Relaxed));
        let ends = histogram.bounds.iter().map(|bound| number(*bound));
        for (end, count) in ends.chain(["+Inf".to_owned()]).zip(counts) {
            below += count;
            self.line("_bucket", &[], Some(&end), &below.to_string());
        }
        let sum = histogram.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        self.line("_sum", &[], None, &number(sum));
        self.line("_count", &[], None, &below.to_string());
    }

    fn line(&mut self, suffix: &str, values: &[&str], le: Option<&str>, value: &str) {
        debug_assert_eq!(self.labels.len(), values.len(), "labels of {}", self.name);
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let labels = self.labels.iter().copied().zip(values.iter().copied());
        let mut open = '{';
        for (name, value) in labels.chain(le.map(|le| ("le", le))) {
            self.out.push(open);
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(value, true, self.out);
            self.out.push('"');
            open = ',';
        }
        if open == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
        self.out.push_str(value);
        self.out.push('\n');
    }
}

/// Times by size, to be written by many and read by some.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is of what is above all of them.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Histogram {
    /// An empty one; `bounds` are upper ends in seconds, inclusive and rising.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
        }
    }

    /// Counts a time.
    pub fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Times counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }
}

/// A page of all metrics of a table.
#[must_use]
pub fn page<S>(families: &[Family<S>], snapshot: &S) -> String {
    let mut out = String::with_capacity(families.len() * 160);
    for family in families {
        out.push_str("# HELP ");
        out.push_str(family.name);
        out.push(' ');
        escape(family.help, false, &mut out);
        out.push_str("\n# TYPE ");
        out.push_str(family.name);
        out.push(' ');
        out.push_str(family.kind.name());
        out.push('\n');
        let mut samples = Samples {
            name: family.name,
            labels: family.labels,
            out: &mut out,
        };
        (family.read)(snapshot, &mut samples);
    }
    out
}

/// The table for people, in Markdown.
#[must_use]
pub fn reference<S>(families: &[Family<S>]) -> String {
    let mut out = String::from("| Metric | Type | Unit | Meaning |\n|---|---|---|---|\n");
    for Family {
        name,
        kind,
        unit,
        labels,
        help,
        ..
    } in families
    {
        let labels = match labels {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(", ")),
        };
        out.push_str(&format!(
            "| `{name}{labels}` | {} | {unit} | {} |\n",
            kind.name(),
            help.replace('|', "\\|")
        ));
    }
    out
}

/// A number as the format has it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Backslash and line feed are escaped everywhere, the quotation mark in label values.
fn escape(text: &str, quoted: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two {
        names: Vec<&'static str>,
        times: Histogram,
    }

    const FAMILIES: &[Family<Two>] = &[
        Family {
            name: "netml_test_frames_total",
            kind: Kind::Counter,
            unit: "frames",
            labels: &["interface"],
            help: "Of an interface | a \\ b.\nSecond line.",
            read: |two, out| {
                for (n, name) in two.names.iter().enumerate() {
                    out.count_of(&[name], n as u64);
                }
            },
        },
        Family {
            name: "netml_test_offset_seconds",
            kind: Kind::Gauge,
            unit: "seconds",
            labels: &[],
            help: "May be negative.",
            read: |_, out| out.number(-0.25),
        },
        Family {
            name: "netml_test_commit_seconds",
            kind: Kind::Histogram,
            unit: "seconds",
            labels: &[],
            help: "Times.",
            read: |two, out| out.histogram(&two.times),
        },
    ];

    fn two() -> Two {
        let times = Histogram::new(&[0.1, 1.0]);
        for ms in [50, 100, 101, 5_000] {
            times.observe(Duration::from_millis(ms));
        }
        Two {
            names: vec!["eth0", "a\"b\\c\nd", "ü{x=\"y\"} 1"],
            times,
        }
    }

    #[test]
    fn a_page_reads_back_as_what_was_written() {
        let two = two();
        let page = parse::parse(&page(FAMILIES, &two)).unwrap();
        for (n, name) in two.names.iter().enumerate() {
            let value = page.value("netml_test_frames_total", &[("interface", name)]);
            assert_eq!(value, Some(n as f64), "{name:?}");
        }
        let help = &page.families()[0].help;
        assert_eq!(help, FAMILIES[0].help);
        assert_eq!(page.value("netml_test_offset_seconds", &[]), Some(-0.25));
    }

    #[test]
    fn buckets_are_cumulative_with_inclusive_ends() {
        let two = two();
        let text = page(FAMILIES, &two);
        let page = parse::parse(&text).unwrap();
        let below = |le| page.value("netml_test_commit_seconds_bucket", &[("le", le)]);
        assert_eq!(below("0.1"), Some(2.0));
        assert_eq!(below("1"), Some(3.0));
        assert_eq!(below("+Inf"), Some(4.0));
        assert_eq!(
            page.value("netml_test_commit_seconds_count", &[]),
            Some(4.0)
        );
        assert_eq!(
            page.value("netml_test_commit_seconds_sum", &[]),
            Some(5.251)
        );
        assert_eq!(two.times.count(), 4);
    }

    #[test]
    fn numbers_are_those_of_the_format() {
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
        assert_eq!(number(1.5), "1.5");
    }

    #[test]
    fn the_reference_has_a_row_for_each() {
        let text = reference(FAMILIES);
        assert_eq!(text.lines().count(), 2 + FAMILIES.len() + 1, "{text}");
        assert!(text.contains("`netml_test_frames_total{interface}` | counter | frames"));
    }
}
