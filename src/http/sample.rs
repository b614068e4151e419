//! One value of another room, as `/metrics` shows it.
//!
//! **Invariant:** a sample knows no registry and no label but those that it was made with.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::hub::histogram::{BUCKETS, Histogram, Scale};

/// One value of another room, as it is at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct Sample {
    /// In full but for `_total`, which a counter is given: `onair_rtp_received_bytes`.
    pub name: &'static str,
    /// One line without a full stop.
    pub help: &'static str,
    /// The value, and whether it only rises.
    pub value: Value,
}

/// The value of a [`Sample`].
#[derive(Debug, Clone)]
pub enum Value {
    /// Only rises.
    Counter(u64),
    /// Only rises, in parts.
    CounterOf(f64),
    /// Only rise: one for each value of a label.
    Counters(&'static str, Vec<(&'static str, u64)>),
    /// Rises and falls.
    Gauge(f64),
    /// Rise and fall: one for each value of a label.
    Gauges(&'static str, Vec<(&'static str, u64)>),
    /// Values by their size.
    Histogram(Buckets),
}

/// The counts of a [`Histogram`], without its scale.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    sum: f64,
    counts: [(f64, u64); BUCKETS],
}

impl EncodeMetric for Buckets {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.counts.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum, all, &self.counts, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Sample {
    /// A value that only rises.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value: Value::Counter(value) }
    }

    /// Seconds that only rise.
    #[must_use]
    pub fn seconds(name: &'static str, help: &'static str, value: Duration) -> Self {
        Self { name, help, value: Value::CounterOf(value.as_secs_f64()) }
    }

    /// Values that only rise, one for each value of `label`.
    #[must_use]
    pub fn counters(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: Vec<(&'static str, u64)>,
    ) -> Self {
        Self { name, help, value: Value::Counters(label, values) }
    }

    /// A value that rises and falls.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no gauge comes near 2^53")]
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value: Value::Gauge(value as f64) }
    }

    /// Values that rise and fall, one for each value of `label`.
    #[must_use]
    pub fn gauges(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Self {
        Self { name, help, value: Value::Gauges(label, values.into_iter().collect()) }
    }

    /// Values by their size.
    #[must_use]
    pub fn histogram<S: Scale>(name: &'static str, help: &'static str, histogram: &Histogram<S>) -> Self {
        let mut counts = [(f64::INFINITY, 0); BUCKETS];
        for (place, bucket) in counts.iter_mut().zip(histogram.buckets()) {
            *place = bucket;
        }
        Self { name, help, value: Value::Histogram(Buckets { sum: histogram.sum(), counts }) }
    }
}
