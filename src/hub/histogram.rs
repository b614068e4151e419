//! Values counted by their size, as Prometheus takes them.
//!
//! **Invariant:** a value is in one bucket; counting allocates nothing.

use std::marker::PhantomData;

/// Buckets of a histogram, the last of which has no upper bound.
pub const BUCKETS: usize = 12;

/// What a histogram counts.
pub trait Scale {
    /// One of what is counted, in the unit that is told: a microsecond is 1e-6 of a second.
    const UNIT: f64;
    /// Upper bounds of all buckets but the last, inclusive and rising, in what is counted.
    const BOUNDS: [u64; BUCKETS - 1];
}

/// Round-trip times: counted in microseconds, told in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundTrip;

impl Scale for RoundTrip {
    const UNIT: f64 = 1e-6;
    const BOUNDS: [u64; BUCKETS - 1] =
        [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 400_000, 800_000, 1_600_000];
}

/// Interarrival jitter (RFC 3550, 6.4.1): counted in microseconds, told in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Jitter;

impl Scale for Jitter {
    const UNIT: f64 = 1e-6;
    const BOUNDS: [u64; BUCKETS - 1] =
        [500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 50_000, 100_000, 200_000, 500_000];
}

/// Shares lost between two reports: counted in 256ths (RFC 3550, 6.4.1), told as ratios.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss;

impl Scale for Loss {
    const UNIT: f64 = 1.0 / 256.0;
    // None, 0.4, 0.8, 1.2, 2, 3, 5, 10, 20, 30 and 50 %.
    const BOUNDS: [u64; BUCKETS - 1] = [0, 1, 2, 3, 5, 8, 13, 26, 51, 77, 128];
}

/// Time spent in the server: counted in microseconds, told in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarding;

impl Scale for Forwarding {
    const UNIT: f64 = 1e-6;
    const BOUNDS: [u64; BUCKETS - 1] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];
}

/// How many values of each size there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram<S> {
    counts: [u64; BUCKETS],
    sum: u64,
    scale: PhantomData<S>,
}

impl<S> Default for Histogram<S> {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum: 0, scale: PhantomData }
    }
}

impl<S: Scale> Histogram<S> {
    /// One with these counts of its buckets, and this sum of all values.
    #[must_use]
    pub fn new(counts: [u64; BUCKETS], sum: u64) -> Self {
        Self { counts, sum, scale: PhantomData }
    }

    /// The bucket of a value.
    #[must_use]
    pub fn bucket(value: u64) -> usize {
        S::BOUNDS.partition_point(|bound| *bound < value)
    }

    /// Counts a value.
    pub fn observe(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(Self::bucket(value)) {
            *count = count.saturating_add(1);
            self.sum = self.sum.saturating_add(value);
        }
    }

    /// The sum of all values, in the unit that is told.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a sum of measurements is as good as its first 53 bits")]
    pub fn sum(&self) -> f64 {
        self.sum as f64 * S::UNIT
    }

    /// Each bucket's upper bound in the unit that is told, the last one's being infinite, and its own count.
    #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = S::BOUNDS.iter().map(|bound| *bound as f64 * S::UNIT).chain([f64::INFINITY]);
        bounds.zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = Histogram::<Loss>::default();
        for value in [0, 0, 1, 4, 5, 129, 255] {
            histogram.observe(value);
        }
        let counts: Vec<u64> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 2]);
        assert!((histogram.sum() - 394.0 / 256.0).abs() < 1e-9);
    }

    #[test]
    fn bounds_rise() {
        fn rise<S: Scale>() {
            assert!(S::BOUNDS.is_sorted_by(|a, b| a < b));
        }
        rise::<RoundTrip>();
        rise::<Jitter>();
        rise::<Loss>();
        rise::<Forwarding>();
    }
}
