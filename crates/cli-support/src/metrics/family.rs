//! Writing of families: name, help, unit and series, each family in one go.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::metrics::count::Count;
use crate::metrics::duration::Durations;
use crate::metrics::label::Labels;

/// Writes families. Names are given without `_total` and without their unit, help is one line that ends in a period.
#[derive(Debug)]
pub struct FamilyWriter<'a>(DescriptorEncoder<'a>);

impl<'a> FamilyWriter<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// A family of counters.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn counters<L: Labels>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        count: &Count<L>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for labels in L::all() {
            let (pairs, value) = (labels.pairs(), count.get(labels));
            if pairs.is_empty() {
                family.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            } else {
                family.encode_family(&pairs)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// A counter whose value is kept elsewhere.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn total(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// As [`FamilyWriter::total`], for a value that is not whole.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn total_of(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A gauge.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A family of gauges, each with its labels. The caller vouches that no labels stand twice, and for how many there are.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn gauges<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (Vec<(&'static str, String)>, V)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        // Help of a family without series would be noise.
        if values.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A family of gauges with one series for each value of the labels.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn gauges_by<L: Labels>(&mut self, name: &str, help: &str, value: impl Fn(L) -> u64) -> fmt::Result {
        let owned =
            |labels: L| labels.pairs().into_iter().map(|(key, text)| (key, text.to_owned())).collect();
        self.gauges(name, help, None, L::all().into_iter().map(|labels| (owned(labels), value(labels))))
    }

    /// A family of histograms of durations. The unit, seconds, is added to the name.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn durations<L: Labels>(&mut self, name: &str, help: &str, durations: &Durations<L>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for labels in L::all() {
            let pairs = labels.pairs();
            if pairs.is_empty() {
                // The only one there is.
                return durations.of(labels).encode(family);
            }
            durations.of(labels).encode(family.encode_family(&pairs)?)?;
        }
        Ok(())
    }
}
