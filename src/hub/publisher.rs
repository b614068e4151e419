//! What a peer that sends a broadcast knows of itself.

use super::keys::BroadcastKey;

/// The publisher's side of a broadcast.
#[derive(Debug)]
pub struct Publisher {
    /// The broadcast it sends.
    pub broadcast: BroadcastKey,
    /// Kind and mid of each m-line of its last offer: a later one keeps them.
    pub m_lines: Vec<(String, String)>,
}

impl Publisher {
    /// Whether an offer with `m_lines` may follow the last one (RFC 3264 §8): none is dropped, and none becomes another,
    /// save for those that `is_stopped` by their mid.
    pub fn may_offer(&self, m_lines: &[(String, String)], is_stopped: impl Fn(&str) -> bool) -> bool {
        let mut pairs = self.m_lines.iter().zip(m_lines);
        m_lines.len() >= self.m_lines.len() && pairs.all(|(before, after)| before == after || is_stopped(&before.1))
    }
}
