//! A publisher's wall clock as the time base that its audio and video share.
//!
//! **Invariant:** both tracks of a publisher are placed by one anchor between its NTP clock and ours, so whatever error
//! the anchor has, they keep step; once a track has been placed by its sender reports it stays so.

use std::time::{Duration, Instant};

use super::io::SenderReport;

/// Wall clocks given out lie this far in the past, so that a sender report that came late, and so set the anchor a
/// little early, never puts a packet into the future. The same for both tracks, it does not move them apart.
const MARGIN: Duration = Duration::from_millis(500);

/// Ties a publisher's NTP clock to ours.
#[derive(Debug, Default)]
pub struct SourceClock {
    anchor: Option<(u64, Instant)>,
}

impl SourceClock {
    /// Where on our clock the packet with `timestamp` was captured, less a constant margin.
    ///
    /// By the track's sender report where there is one, else by its arrival.
    pub fn wallclock(
        &mut self,
        timestamp: u32,
        clock_rate_hz: u32,
        report: Option<SenderReport>,
        arrival: Instant,
    ) -> Instant {
        let placed = report.and_then(|report| self.placed(timestamp, clock_rate_hz, report, arrival));
        let wallclock = placed.unwrap_or(arrival);
        wallclock.checked_sub(MARGIN).unwrap_or(arrival).min(arrival)
    }

    fn placed(
        &mut self,
        timestamp: u32,
        clock_rate_hz: u32,
        report: SenderReport,
        arrival: Instant,
    ) -> Option<Instant> {
        // How far the packet lies after the report; before it, where the timestamps differ by more than half their range.
        let ticks = i64::from(timestamp.wrapping_sub(report.rtp) as i32);
        let offset = (ticks << 32).checked_div(i64::from(clock_rate_hz))?;
        let ntp = report.ntp.wrapping_add_signed(offset);
        let (anchor_ntp, anchor_at) = *self.anchor.get_or_insert((ntp, arrival));
        let since = ntp.wrapping_sub(anchor_ntp) as i64;
        let distance = ntp_duration(since.unsigned_abs());
        // A report that is hours off is a broken clock: the arrival is the better guess.
        if distance > Duration::from_secs(24 * 3600) {
            return None;
        }
        let wallclock = if since >= 0 { anchor_at.checked_add(distance) } else { anchor_at.checked_sub(distance) }?;
        let apart = wallclock.max(arrival) - wallclock.min(arrival);
        // An encoder whose clock jumped: start over from here.
        if apart > Duration::from_secs(10) {
            self.anchor = Some((ntp, arrival));
            return Some(arrival);
        }
        Some(wallclock)
    }
}

/// The length of `ntp` in 32.32 fixed point seconds.
fn ntp_duration(ntp: u64) -> Duration {
    let nanos = ((ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
    Duration::new(ntp >> 32, nanos as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_epoch;

    fn report(seconds: f64, rtp: u32) -> SenderReport {
        SenderReport { ntp: (3_900_000_000_u64 << 32) + (seconds * 4_294_967_296.0) as u64, rtp }
    }

    #[test]
    fn two_tracks_captured_together_get_one_wall_clock_however_late_one_arrives() {
        let start = test_epoch() + Duration::from_secs(60);
        let mut clock = SourceClock::default();
        let audio = clock.wallclock(48_000, 48_000, Some(report(0.0, 0)), start);
        let late = start + Duration::from_millis(120);
        let video = clock.wallclock(1_090_000, 90_000, Some(report(0.0, 1_000_000)), late);
        let apart = audio.max(video) - audio.min(video);
        assert!(apart < Duration::from_millis(1), "{apart:?}");
    }

    #[test]
    fn a_packet_before_its_report_is_placed_before_it() {
        let start = test_epoch() + Duration::from_secs(60);
        let mut clock = SourceClock::default();
        let at = clock.wallclock(0, 90_000, Some(report(5.0, 0)), start);
        let before = clock.wallclock(0_u32.wrapping_sub(9_000), 90_000, Some(report(5.0, 0)), start);
        let apart = at - before;
        assert!(apart > Duration::from_millis(99) && apart < Duration::from_millis(101), "{apart:?}");
    }

    #[test]
    fn the_wall_clock_is_never_in_the_future_and_a_broken_clock_is_not_followed() {
        let start = test_epoch() + Duration::from_secs(60);
        let mut clock = SourceClock::default();
        let first = clock.wallclock(0, 90_000, Some(report(0.0, 0)), start);
        assert!(first <= start);
        let mad = clock.wallclock(0, 90_000, Some(report(1e6, 0)), start);
        assert!(mad <= start && start - mad <= MARGIN);
        let jumped = clock.wallclock(0, 90_000, Some(report(60.0, 0)), start);
        assert!(jumped <= start && start - jumped <= MARGIN);
    }

    #[test]
    fn without_a_report_the_arrival_counts() {
        let start = test_epoch() + Duration::from_secs(60);
        assert_eq!(SourceClock::default().wallclock(7, 90_000, None, start), start - MARGIN);
    }
}
