//! Metrics as a program serves them, read by rules that are stricter than those of promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};

use crate::harness::deadline::DEADLINE;

/// Fetches a path by HTTP from `address`, with this `Accept` header. Returns the head of the answer and its body.
pub(crate) fn fetch(address: &str, path: &str, accept: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connection to {address}"))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}\n{body}");
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)?
    } else {
        body.to_owned()
    };
    Ok((head.to_owned(), body))
}

/// The content of a body in chunks.
fn unchunked(mut body: &str) -> Result<String> {
    let mut content = String::new();
    loop {
        let (len, rest) = body.split_once("\r\n").context("a chunk without a length")?;
        let len = usize::from_str_radix(len.split(';').next().unwrap_or_default().trim(), 16)?;
        if len == 0 {
            return Ok(content);
        }
        content.push_str(rest.get(..len).context("a chunk that is cut")?);
        body = rest.get(len + 2..).context("a chunk without an end")?;
    }
}

/// A page of metrics that has passed the checks.
#[derive(Debug)]
pub(crate) struct Exposition {
    series: BTreeMap<String, f64>,
    families: BTreeSet<String>,
}

impl Exposition {
    /// The metrics of the program whose status is served at `address`, as Prometheus text.
    pub(crate) fn of(address: &str) -> Result<Self> {
        let (head, body) = fetch(address, "/metrics", "text/plain")?;
        ensure!(head.contains("text/plain; version=0.0.4"), "{head}");
        Self::parse(&body)
    }

    /// Checks a page in either form: each family stands once, in one piece, with its help and type; each series stands once, and
    /// belongs to its family; histograms grow up to `+Inf`, which is their count; counters are not negative.
    pub(crate) fn parse(page: &str) -> Result<Self> {
        ensure!(page.ends_with('\n') && !page.contains('\r'), "no newline at the end, or carriage returns");
        let is_open_metrics = page.ends_with("# EOF\n");
        let mut parsed = Self { series: BTreeMap::new(), families: BTreeSet::new() };
        let mut types = BTreeMap::new();
        let mut help = BTreeSet::new();
        let mut family = String::new();
        for line in page.lines() {
            let at = || format!("the line {line:?}");
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (kind, name, rest) = (words.next(), words.next().unwrap_or_default(), words.next());
                match kind {
                    Some("HELP") => {
                        ensure!(help.insert(name.to_owned()), "{}: its family stands twice", at());
                        ensure!(rest.is_some_and(|help| help.ends_with('.')), "{}: no sentence", at());
                        name.clone_into(&mut family);
                    }
                    Some("TYPE") => {
                        ensure!(family == name, "{}: not behind its help", at());
                        types.insert(name.to_owned(), rest.unwrap_or_default().to_owned());
                    }
                    Some("UNIT") if is_open_metrics => ensure!(family == name, "{}: elsewhere", at()),
                    Some("EOF") if is_open_metrics => {}
                    _ => bail!("{}: no comment of this format", at()),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').with_context(at)?;
            let value: f64 = value.parse().with_context(at)?;
            let name = series.split('{').next().unwrap_or_default();
            let kind = types.get(&family).with_context(at)?;
            let of_family = name.strip_prefix(family.as_str()).with_context(at)?;
            let suffixes: &[&str] = match kind.as_str() {
                "counter" if is_open_metrics => &["_total"],
                "counter" => &[""],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => bail!("{}: of the type {kind}", at()),
            };
            ensure!(suffixes.contains(&of_family), "{}: not of the family {family}", at());
            ensure!(kind != "counter" || name.ends_with("_total"), "{}: a counter without _total", at());
            ensure!(kind == "gauge" || value >= 0.0, "{}: negative", at());
            ensure!(parsed.series.insert(series.to_owned(), value).is_none(), "{}: stands twice", at());
            parsed.families.insert(family.clone());
        }
        ensure!(help.len() == parsed.families.len(), "a family has no series, or help: {help:?}");
        parsed.check_histograms()?;
        Ok(parsed)
    }

    fn check_histograms(&self) -> Result<()> {
        let mut last: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.series {
            let Some((name, labels)) = series.split_once("_bucket{") else { continue };
            let labels = labels.trim_end_matches('}');
            let (bound, others): (Vec<&str>, Vec<&str>) =
                labels.split(',').partition(|label| label.starts_with("le="));
            let bound = bound.first().context("a bucket without le")?.trim_matches(['l', 'e', '=', '"']);
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
            let labels = if others.is_empty() { String::new() } else { format!("{{{}}}", others.join(",")) };
            last.entry(format!("{name}_count{labels}")).or_default().push((bound, *value));
        }
        for (count, mut buckets) in last {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            let grows = buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1);
            let all = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, all)| *all);
            ensure!(grows && all == self.series.get(&count).copied(), "{count}: {buckets:?}");
        }
        Ok(())
    }

    /// The value of a series.
    pub(crate) fn value(&self, series: &str) -> Result<f64> {
        self.series
            .get(series)
            .copied()
            .with_context(|| format!("no {series} among {:?}", self.series.keys()))
    }

    /// Checks the values of series.
    pub(crate) fn expect(&self, expected: &[(&str, f64)]) -> Result<()> {
        for (series, expected) in expected {
            let value = self.value(series)?;
            ensure!((value - expected).abs() < 0.001, "{series} is {value}, and not {expected}");
        }
        Ok(())
    }

    /// The names of all series, with their labels.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.series.keys().map(String::as_str).collect()
    }

    /// Whether there is a series of this name, whatever its labels.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.series.keys().any(|series| series.split('{').next() == Some(name))
    }

    /// How many families there are.
    pub(crate) fn families(&self) -> usize {
        self.families.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_promtool_does_not_notice_is_noticed() {
        let head = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 1\n";
        let histogram = "# HELP h H.\n# TYPE h histogram\nh_sum 1\nh_count 2\nh_bucket{le=\"1\"} 1\n";
        assert_eq!(
            Exposition::parse(head).unwrap().value("a_total{x=\"1\"}").unwrap().to_bits(),
            1_f64.to_bits()
        );
        assert!(Exposition::parse(&format!("{histogram}h_bucket{{le=\"+Inf\"}} 2\n")).is_ok());
        for page in [
            format!("{head}a_total{{x=\"1\"}} 2\n"),
            format!("{head}# HELP b B.\n# TYPE b gauge\nb 1\na_total{{x=\"2\"}} 1\n"),
            format!("{head}{head}"),
            head.replace("A.", "A"),
            head.replace("# HELP a_total A.\n", ""),
            head.replace("1\n", "-1\n"),
            head.replace("_total", ""),
            format!("{head}# HELP none None.\n# TYPE none gauge\n"),
            histogram.to_owned(),
            format!("{histogram}h_bucket{{le=\"+Inf\"}} 3\n"),
            format!("{histogram}h_bucket{{le=\"+Inf\"}} 0\n"),
            head.trim_end().to_owned(),
        ] {
            assert!(Exposition::parse(&page).is_err(), "{page}");
        }
        assert_eq!(unchunked("3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n").unwrap(), "abcd");
    }
}
