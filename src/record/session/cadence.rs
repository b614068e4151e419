//! How often a source is asked for a keyframe while it is recorded, so that a player finds places in the file.
//!
//! **Invariant:** a source is asked once for each interval without a keyframe, whether it answers or not.

/// The wish of `--record-keyframes`.
#[derive(Debug)]
pub struct Cadence {
    interval_ns: Option<i64>,
    asked_ns: i64,
}

impl Cadence {
    /// A keyframe at least so often, if at all.
    pub fn new(interval_ns: Option<i64>) -> Self {
        Self { interval_ns, asked_ns: i64::MIN }
    }

    /// Whether a source is to be asked now; it counts as asked then. Both times stand on the timeline.
    pub fn is_due(&mut self, keyframe_ns: i64, latest_ns: i64) -> bool {
        let since_ns = keyframe_ns.max(self.asked_ns);
        let is_due = self.interval_ns.is_some_and(|interval_ns| latest_ns.saturating_sub(since_ns) >= interval_ns);
        if is_due {
            self.asked_ns = latest_ns;
        }
        is_due
    }
}
