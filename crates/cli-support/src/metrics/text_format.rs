//! The two text forms of metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::metrics::family::FamilyWriter;
use crate::metrics_format::MetricsFormat;

/// Writes the families that `families` writes.
pub fn write<F>(format: MetricsFormat, families: F) -> String
where
    F: Fn(&mut FamilyWriter<'_>) -> fmt::Result + Send + Sync + 'static,
{
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut body = String::new();
    let written = match format {
        MetricsFormat::Prometheus => prometheus_text::encode(&mut body, &registry),
        MetricsFormat::OpenMetrics => text::encode(&mut body, &registry),
    };
    // Writing to memory does not fail, and half a page would be taken for a whole one.
    if written.is_err() {
        body.clear();
    }
    body
}

/// A function as a collector of the library.
struct Families<F>(F);

impl<F> fmt::Debug for Families<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Families").finish_non_exhaustive()
    }
}

impl<F> Collector for Families<F>
where
    F: Fn(&mut FamilyWriter<'_>) -> fmt::Result + Send + Sync + 'static,
{
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut FamilyWriter::new(encoder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Count, Durations, StreamKind};

    #[test]
    fn both_forms_have_each_family_once_with_its_help_and_unit() {
        let write = |format| {
            write(format, |families| {
                let count = Count::<StreamKind>::default();
                count.add(StreamKind::Tcp, 7);
                families.counters(
                    "a_stream",
                    "Streams.",
                    Some(&prometheus_client::registry::Unit::Bytes),
                    &count,
                )?;
                families.gauge("b", "Something.", None, 3_u64)?;
                let shares = [(vec![("share", "a\"b\\c\nd".to_owned())], 1_u64)];
                families.gauges("c", "By share.", None, shares)?;
                families.gauges::<u64>("none", "Nothing.", None, [])?;
                families.durations("d", "How long.", &Durations::<()>::default())
            })
        };
        let prometheus = write(MetricsFormat::Prometheus);
        let open_metrics = write(MetricsFormat::OpenMetrics);
        for line in [
            "# HELP a_stream_bytes_total Streams.",
            "# TYPE a_stream_bytes_total counter",
            "a_stream_bytes_total{kind=\"tcp\"} 7",
            "a_stream_bytes_total{kind=\"forwarded\"} 0",
            "b 3",
            "c{share=\"a\\\"b\\\\c\\nd\"} 1",
            "d_seconds_bucket{le=\"+Inf\"} 0",
            "d_seconds_count 0",
        ] {
            assert_eq!(prometheus.lines().filter(|other| *other == line).count(), 1, "{line}\n{prometheus}");
            if !line.starts_with('#') {
                assert_eq!(
                    open_metrics.lines().filter(|other| *other == line).count(),
                    1,
                    "{line}\n{open_metrics}"
                );
            }
        }
        assert!(open_metrics.ends_with("# EOF\n") && open_metrics.contains("# UNIT a_stream_bytes bytes\n"));
        assert!(prometheus.ends_with('\n') && !prometheus.contains("EOF") && !prometheus.contains("none"));
    }
}
