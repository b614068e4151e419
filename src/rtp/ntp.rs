//! NTP time, and where an RTP clock stands on it: what a sender report tells (RFC 3550 §6.4.1).
//!
//! **Invariant:** mapping a time there and back errs by less than one tick of the RTP clock, as long as it lies within half
//! the range of timestamps of the report.

use std::time::{Duration, Instant};

/// Seconds from NTP's epoch, 1900, to Unix's.
const UNIX_EPOCH_S: u64 = 2_208_988_800;

const FRACTIONS_PER_S: u128 = 1 << 32;

/// A time as NTP writes it: seconds since 1900 in the upper 32 bits, fractions of a second in the lower.
///
/// It wraps in 2036, so differences are taken by [`NtpTime::wrapping_sub`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The NTP time of a time since Unix's epoch.
    #[must_use]
    pub fn from_unix(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs().wrapping_add(UNIX_EPOCH_S);
        Self(seconds << 32).wrapping_add(Duration::from_nanos(u64::from(since_epoch.subsec_nanos())))
    }

    /// The 24 bits of abs-send-time: 6 of seconds, 18 of their fraction.
    #[must_use]
    pub fn abs_send_time(self) -> [u8; 3] {
        let [_, _, _, high, middle, low, ..] = (self.0 << 2).to_be_bytes();
        [high, middle, low]
    }

    /// The middle 32 bits: what a receiver report repeats as `LSR`.
    #[must_use]
    pub fn compact(self) -> u32 {
        (self.0 >> 16 & 0xffff_ffff) as u32
    }

    /// This time and a span, past the wrap if need be.
    #[must_use]
    pub fn wrapping_add(self, span: Duration) -> Self {
        let fractions = rounded_ratio(u128::from(span.subsec_nanos()), FRACTIONS_PER_S, 1_000_000_000);
        let seconds = span.as_secs() << 32;
        Self(self.0.wrapping_add(seconds).wrapping_add(fractions))
    }

    /// The signed distance to an earlier time, in units of 2^-32 s.
    #[must_use]
    pub fn wrapping_sub(self, earlier: NtpTime) -> i64 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// `value × numerator ÷ denominator`, to the nearest; the results of this module fit.
fn rounded_ratio(value: u128, numerator: u128, denominator: u128) -> u64 {
    u64::try_from((value * numerator + denominator / 2) / denominator.max(1)).unwrap_or(u64::MAX)
}

/// Ties the monotonic clock, which the caller passes, to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    at: Instant,
    ntp: NtpTime,
}

impl WallClock {
    /// The clock that shows `since_epoch`, a time since Unix's epoch, at `at`.
    #[must_use]
    pub fn new(at: Instant, since_epoch: Duration) -> Self {
        Self { at, ntp: NtpTime::from_unix(since_epoch) }
    }

    /// What it shows at `now`; a moment before it was set counts as that moment.
    #[must_use]
    pub fn ntp_at(&self, now: Instant) -> NtpTime {
        self.ntp.wrapping_add(now.saturating_duration_since(self.at))
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMapping {
    /// The moment on the wall clock.
    pub ntp: NtpTime,
    /// The same moment as an RTP timestamp.
    pub rtp: u32,
    /// The rate of the RTP clock, in Hz.
    pub clock_rate_hz: u32,
}

impl ClockMapping {
    /// The RTP timestamp at a time before or after the report.
    #[must_use]
    pub fn rtp_at(&self, ntp: NtpTime) -> u32 {
        let distance = ntp.wrapping_sub(self.ntp);
        let ticks = rounded_ratio(u128::from(distance.unsigned_abs()), u128::from(self.clock_rate_hz), FRACTIONS_PER_S);
        // Timestamps count modulo 2^32.
        let ticks = (ticks & 0xffff_ffff) as u32;
        if distance < 0 { self.rtp.wrapping_sub(ticks) } else { self.rtp.wrapping_add(ticks) }
    }

    /// The time of an RTP timestamp, which is taken to be within half the range of the report's.
    #[must_use]
    pub fn ntp_at(&self, rtp: u32) -> NtpTime {
        let ticks = rtp.wrapping_sub(self.rtp).cast_signed();
        let span = rounded_ratio(u128::from(ticks.unsigned_abs()), FRACTIONS_PER_S, u128::from(self.clock_rate_hz));
        NtpTime(if ticks < 0 { self.ntp.0.wrapping_sub(span) } else { self.ntp.0.wrapping_add(span) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unix_time_is_counted_from_1900() {
        assert_eq!(NtpTime::from_unix(Duration::ZERO).0, 2_208_988_800 << 32);
        assert_eq!(NtpTime::from_unix(Duration::from_millis(500)).0, 2_208_988_800 << 32 | 1 << 31);
        // RFC 868's example: 2,629,584,000 is 00:00 on 1 May 1983 GMT, Unix 420,595,200.
        assert_eq!(NtpTime::from_unix(Duration::from_secs(420_595_200)).0 >> 32, 2_629_584_000);
        assert_eq!(NtpTime(0x0102_0304_0506_0708).compact(), 0x0304_0506);
    }

    #[test]
    fn the_wrap_of_2036_is_no_jump() {
        let before = NtpTime(u64::MAX - (1 << 31));
        let after = before.wrapping_add(Duration::from_secs(1));
        assert!(after.0 < before.0);
        assert_eq!(after.wrapping_sub(before), 1 << 32);
        assert_eq!(before.wrapping_sub(after), -1 << 32);
    }

    #[test]
    fn a_second_is_the_clock_rate_in_both_directions() {
        let mapping = ClockMapping { ntp: NtpTime(100 << 32), rtp: 1_000, clock_rate_hz: 48_000 };
        assert_eq!(mapping.rtp_at(NtpTime(101 << 32)), 49_000);
        assert_eq!(mapping.rtp_at(NtpTime(99 << 32)), 1_000_u32.wrapping_sub(48_000));
        assert_eq!(mapping.ntp_at(49_000), NtpTime(101 << 32));
        assert_eq!(mapping.ntp_at(1_000_u32.wrapping_sub(24_000)), NtpTime((100 << 32) - (1 << 31)));
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_timestamp(ntp: u64, rtp: u32, target: u32, rate in 1_u32..200_000) {
            let mapping = ClockMapping { ntp: NtpTime(ntp), rtp, clock_rate_hz: rate };
            // Slow clocks would reach beyond the half of NTP's own range.
            prop_assume!(i64::from(target.wrapping_sub(rtp).cast_signed()).abs() / i64::from(rate) < 1 << 30);
            prop_assert_eq!(mapping.rtp_at(mapping.ntp_at(target)), target);
        }

        #[test]
        fn nothing_overflows(ntp: u64, rtp: u32, other: u64, rate: u32, span_ns: u64) {
            let mapping = ClockMapping { ntp: NtpTime(ntp), rtp, clock_rate_hz: rate };
            let _ = (mapping.rtp_at(NtpTime(other)), mapping.ntp_at(!rtp));
            let _ = NtpTime::from_unix(Duration::MAX).wrapping_add(Duration::from_nanos(span_ns));
        }
    }
}
