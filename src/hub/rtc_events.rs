//! What a peer's str0m tells, and what the hub does about it.
//!
//! **Invariant:** nothing a client sends on a data channel is kept; each message is answered at once or dropped.

use std::time::Instant;

use str0m::Event as RtcEvent;
use str0m::channel::{ChannelData, ChannelId};

use super::Hub;
use super::keys::PeerKey;
use super::peer::ChannelUse;

/// The longest `ping-N` that is answered, in bytes.
const PING_MAX_BYTES: usize = 64;

impl Hub {
    pub(super) fn handle_rtc_event(&mut self, now: Instant, key: PeerKey, event: RtcEvent) {
        match event {
            RtcEvent::RtpPacket(packet) => self.relay(now, key, packet),
            RtcEvent::Connected => self.connected(now, key),
            RtcEvent::ChannelOpen(channel, label) => self.channel_opened(key, channel, &label),
            RtcEvent::ChannelData(data) => self.channel_data(key, &data),
            RtcEvent::ChannelClose(channel) => {
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.channels.retain(|(open, _)| *open != channel);
                }
            }
            RtcEvent::IceConnectionStateChange(state) => {
                let session = self.peers.get(key).map(|peer| peer.session.0);
                tracing::debug!(session, ?state, "ICE");
            }
            _ => {}
        }
    }

    fn connected(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.connected) else {
            return;
        };
        peer.connected = true;
        peer.connect_by = None;
        self.handshaking = self.handshaking.saturating_sub(1);
        tracing::debug!(session = peer.session.0, "connected");
        if peer.subscriber().is_some() {
            match peer.open_outlet() {
                Some(outlet) => peer.outlet = Some(self.outlets.insert(outlet)),
                None => {
                    tracing::warn!(session = peer.session.0, "a viewer's media cannot be secured");
                    peer.give_up();
                    return;
                }
            }
        }
        self.attach(now, key);
    }

    fn channel_opened(&mut self, key: PeerKey, channel: ChannelId, label: &str) {
        let max = self.config.limits.channels_per_peer;
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if peer.channels.len() >= max {
            let _ = peer.guard(|rtc| rtc.direct_api().close_data_channel(channel));
            return;
        }
        let used = match label {
            "health-check" => ChannelUse::HealthCheck,
            "video-check" if peer.publisher().is_some() => ChannelUse::VideoCheck,
            _ => ChannelUse::Other,
        };
        peer.channels.push((channel, used));
    }

    fn channel_data(&mut self, key: PeerKey, data: &ChannelData) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if !peer.channels.contains(&(data.id, ChannelUse::HealthCheck)) || data.data.len() > PING_MAX_BYTES {
            return;
        }
        if let Some(number) = data.data.strip_prefix(b"ping-") {
            let pong = [b"pong-", number].concat();
            peer.write_channel(data.id, data.binary, &pong);
            self.peers.mark(key);
        }
    }
}
