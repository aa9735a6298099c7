//! Reads a page of metrics, more strictly than Prometheus does: for tests and tools.
//!
//! Beyond the grammar of the format: every sample belongs to a metric that was announced by HELP and
//! TYPE just before it, no metric and no label set comes twice, counters end in `_total` and are not
//! negative, histograms are whole and cumulative.

use std::collections::{BTreeMap, HashSet};

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name with its suffix.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its type: `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its help.
    pub help: String,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page(Vec<Metric>);

impl Page {
    /// All metrics, in their order.
    #[must_use]
    pub fn families(&self) -> &[Metric] {
        &self.0
    }

    /// The value of exactly these labels.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.samples(name)
            .find(|sample| sample.labels == wanted)
            .map(|sample| sample.value)
    }

    /// The same of what is counted; None also for what is no whole number.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        whole_number(self.value(name, labels)?)
    }

    /// All values of a name.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        let all = self.0.iter().flat_map(|metric| &metric.samples);
        all.filter(move |sample| sample.name == name)
    }

    /// Sum of all counts of a name; what is no whole number is left out.
    #[must_use]
    pub fn sum(&self, name: &str) -> u64 {
        let counts = self.samples(name).map(|sample| whole_number(sample.value));
        counts.flatten().sum()
    }
}

/// Reads a page.
///
/// # Errors
/// The first line that is none of the format, or the first metric that is not whole.
pub fn parse(text: &str) -> Result<Page, String> {
    if !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut page = Page::default();
    let mut help: Option<(String, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let read = match line.strip_prefix("# ") {
            Some(comment) => announced(comment, &mut help, &mut page),
            None => sample(line, help.is_some(), &mut page),
        };
        read.map_err(|why| format!("line {}: {why}: {line:?}", number + 1))?;
    }
    if help.is_some() {
        return Err("a HELP without its TYPE".into());
    }
    for metric in &page.0 {
        check(metric).map_err(|why| format!("{}: {why}", metric.name))?;
    }
    Ok(page)
}

fn announced(
    comment: &str,
    help: &mut Option<(String, String)>,
    page: &mut Page,
) -> Result<(), String> {
    let (word, rest) = comment.split_once(' ').ok_or("a comment of one word")?;
    let (name, rest) = rest.split_once(' ').ok_or("nothing behind the name")?;
    if !is_name(name, true) {
        return Err("not the name of a metric".into());
    }
    match (word, help.take()) {
        ("HELP", None) => {
            if page.0.iter().any(|metric| metric.name == name) {
                return Err("announced twice".into());
            }
            *help = Some((name.to_owned(), unescape(rest, false)?));
            Ok(())
        }
        ("TYPE", Some((helped, help))) if helped == name => {
            if !matches!(rest, "counter" | "gauge" | "histogram") {
                return Err("an unknown type".into());
            }
            page.0.push(Metric {
                name: helped,
                kind: rest.to_owned(),
                help,
                samples: Vec::new(),
            });
            Ok(())
        }
        _ => Err("HELP, then TYPE of the same name".into()),
    }
}

fn sample(line: &str, is_helping: bool, page: &mut Page) -> Result<(), String> {
    let metric = page
        .0
        .last_mut()
        .filter(|_| !is_helping)
        .ok_or("a sample that was not announced")?;
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let suffix = name
        .strip_prefix(&metric.name)
        .ok_or("of another metric than announced")?;
    let fits = match metric.kind.as_str() {
        "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
        _ => suffix.is_empty(),
    };
    if !fits {
        return Err("of another metric than announced".into());
    }
    let sample = Sample {
        name: name.to_owned(),
        labels,
        value: number(value)?,
    };
    let is_new = |other: &Sample| other.name != sample.name || other.labels != sample.labels;
    if !metric.samples.iter().all(is_new) {
        return Err("the same labels twice".into());
    }
    metric.samples.push(sample);
    Ok(())
}

/// Labels behind the opening brace, and what follows the closing one.
fn labels(text: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    let mut rest = text;
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name, false) {
            return Err("not the name of a label".into());
        }
        let mut is_escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let end = end.ok_or("a label value without its end")?;
        let known = labels.insert(name.to_owned(), unescape(&value[..end], true)?);
        if known.is_some() {
            return Err("a label twice".into());
        }
        rest = &value[end + 1..];
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        rest = rest.strip_prefix(',').ok_or("neither `,` nor `}`")?;
    }
}

fn unescape(text: &str, quoted: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if quoted => '"',
                _ => return Err("an unknown escape".into()),
            },
            c => c,
        });
    }
    Ok(out)
}

fn whole_number(value: f64) -> Option<u64> {
    value.to_string().parse().ok()
}

fn is_name(name: &str, of_metric: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':');
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text
            .bytes()
            .all(|b| b.is_ascii_digit() || b".eE+-".contains(&b)) =>
        {
            text.parse().map_err(|_| "not a number".into())
        }
        _ => Err("not a number".into()),
    }
}

fn check(metric: &Metric) -> Result<(), String> {
    match metric.kind.as_str() {
        "counter" if !metric.name.ends_with("_total") => Err("a counter without _total".into()),
        "counter" if !metric.samples.iter().all(|s| s.value >= 0.0) => {
            Err("a counter below zero".into())
        }
        "gauge" if metric.name.ends_with("_total") => Err("a gauge with _total".into()),
        "histogram" => whole(metric),
        _ => Ok(()),
    }
}

/// Each label set of a histogram has rising buckets up to `+Inf`, which equals its count.
fn whole(metric: &Metric) -> Result<(), String> {
    let without_le = |sample: &Sample| {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        labels.into_iter().collect::<Vec<_>>()
    };
    let groups: HashSet<_> = metric.samples.iter().map(without_le).collect();
    for group in groups {
        let of_group = |suffix: &str| -> Vec<&Sample> {
            let name = format!("{}{suffix}", metric.name);
            metric
                .samples
                .iter()
                .filter(|sample| sample.name == name && without_le(sample) == group)
                .collect()
        };
        let (mut end, mut below) = (f64::NEG_INFINITY, 0.0);
        for bucket in of_group("_bucket") {
            let le = number(bucket.labels.get("le").ok_or("a bucket without le")?)?;
            if le <= end || bucket.value < below {
                return Err("buckets do not rise".into());
            }
            (end, below) = (le, bucket.value);
        }
        let (counts, sums) = (of_group("_count"), of_group("_sum"));
        let [count] = counts[..] else {
            return Err("no count".into());
        };
        #[expect(clippy::float_cmp, reason = "both are whole numbers")]
        let is_whole = end == f64::INFINITY && count.value == below && sums.len() == 1;
        if !is_whole {
            return Err("not all of a histogram".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_not_of_the_format_is_refused() {
        let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\"} 1\n";
        assert!(parse(good).is_ok());
        for (from, to) in [
            ("} 1\n", "} 1"),
            ("} 1", "} one"),
            ("} 1", "} -1"),
            ("} 1", "}1"),
            ("} 1", "} inf"),
            ("\"c\"", "\"c"),
            ("\"c\"", "\"\\c\""),
            ("\"c\"", "c"),
            ("b=", "0="),
            ("b=\"c\"", "b=\"c\",b=\"d\""),
            ("b=\"c\"", ""),
            ("a_total{", "b_total{"),
            ("a_total{", "a_total_sum{"),
            ("# TYPE a_total counter\n", ""),
            ("counter", "summary"),
            ("# HELP a_total x\n", ""),
            ("a_total", "a"),
            ("a_total", "0_total"),
        ] {
            let bad = good.replace(from, to);
            assert!(parse(&bad).is_err(), "{bad}");
        }
        assert!(parse(&good.repeat(2)).is_err(), "announced twice");
        let twice = format!("{good}a_total{{b=\"c\"}} 2\n");
        assert!(parse(&twice).is_err());
        assert!(parse(&format!("{good}# HELP b x\n")).is_err());
    }

    #[test]
    fn a_histogram_that_is_not_whole_is_refused() {
        let good = "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
        assert!(parse(good).is_ok());
        for (from, to) in [
            ("h_count 2", "h_count 3"),
            ("h_sum 3\n", ""),
            ("h_bucket{le=\"+Inf\"} 2\n", ""),
            ("le=\"1\"} 1", "le=\"1\"} 3"),
            ("le=\"1\"", "ge=\"1\""),
            ("h_sum 3", "h 3"),
        ] {
            let bad = good.replace(from, to);
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
