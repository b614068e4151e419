//! Broadcast: a run of a publisher's packets, to all subscribers of its track.
//!
//! **Invariant:** a run is passed on by the first flush after it came; no subscriber is waited for.

use std::time::Instant;

use super::Hub;
use super::error::Refusal;
use super::io::HubMetrics;
use super::keys::BroadcastKey;
use super::line::{Line, LineRef};
use super::peer::Peer;
use super::peers::Peers;
use super::rtc::payload_types_for;
use crate::egress::fanout::{PacketWriter, PayloadTypes};
use crate::egress::outlet::Outlets;
use crate::egress::packet::RelayPacket;
use crate::egress::sink::DatagramSink;
use crate::egress::stream::Moment;
use crate::rtp::codec::TrackKind;
use crate::rtp::rewrite::Mapped;
use crate::signal::message::ErrorCode;

impl Hub {
    /// Passes on all runs that have come since the last flush.
    pub(super) fn forward(&mut self, now: Instant, sink: &mut dyn DatagramSink) {
        if self.runs.is_empty() {
            return;
        }
        let mut runs = std::mem::take(&mut self.runs);
        for (key, kind) in runs.drain(..) {
            self.forward_run(now, key, kind, sink);
        }
        self.runs = runs;
    }

    /// The moment `now`, as it is written into packets.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment { now, ntp: self.config.clock.ntp_at(now) }
    }

    fn forward_run(&mut self, now: Instant, key: BroadcastKey, kind: TrackKind, sink: &mut dyn DatagramSink) {
        let moment = self.moment(now);
        let Some(track) = self.broadcasts.get_mut(key).and_then(|broadcast| broadcast.track_mut(kind)) else {
            return;
        };
        let mut run = std::mem::take(&mut track.run);
        let mut writer = LineWriter {
            peers: &self.peers,
            outlets: &mut self.outlets,
            metrics: &mut self.metrics,
            moment,
            sink,
            refused: Vec::new(),
        };
        let mut waiting = track.fanout.forward(&run, now, &mut writer).waiting;
        if kind == TrackKind::Video {
            for packet in run.drain(..) {
                track.ring.insert(packet, now);
            }
        }
        if waiting > 0
            && track.keyframes.are_ignored()
            && let Some(kept) = track.ring.from_latest_start(now)
        {
            let still = track.fanout.catch_up(kept, now, &mut writer).waiting;
            writer.metrics.kept_starts += waiting.saturating_sub(still) as u64;
            waiting = still;
            if waiting == 0 {
                track.keyframes.settle();
            }
        }
        let refused = writer.refused;
        run.clear();
        track.run = run;
        if waiting > 0 {
            track.keyframes.want();
        }
        if track.keyframe_due(now).is_some_and(|due| due <= now) {
            self.request_keyframe(now, key);
        }
        for line in refused {
            self.tell_unsupported(line);
        }
    }

    fn tell_unsupported(&mut self, line: LineRef) {
        let Some(peer) = self.peers.get(line.peer) else {
            return;
        };
        let Some(broadcast) = peer.subscriber().and_then(|subscriber| subscriber.broadcast_of(line.mid)) else {
            return;
        };
        let reason = "your client cannot play this broadcast's codec";
        let refusal = Refusal::new(ErrorCode::UnsupportedCodec, reason).about(broadcast);
        let session = peer.session;
        self.signal(session, None, refusal.into());
    }
}

/// Writes packets into subscribers' lines.
struct LineWriter<'a> {
    peers: &'a Peers,
    outlets: &'a mut Outlets,
    metrics: &'a mut HubMetrics,
    moment: Moment,
    sink: &'a mut dyn DatagramSink,
    refused: Vec<LineRef>,
}

impl PacketWriter<Line> for LineWriter<'_> {
    fn payload_types(&mut self, to: &Line, packet: &RelayPacket) -> Option<PayloadTypes> {
        let rtc = self.peers.get(to.line.peer).map(Peer::rtc)?;
        let accepted = rtc.media(to.line.mid)?.remote_pts();
        let found = payload_types_for(rtc.codec_config(), accepted, &packet.spec);
        if found.is_none() {
            self.refused.push(to.line);
        }
        found
    }

    #[inline]
    fn write(&mut self, to: &mut Line, packet: &RelayPacket, mapped: Mapped, payload_types: PayloadTypes) {
        let Some(outlet) = self.outlets.get_mut(to.outlet) else {
            return;
        };
        if !to.stream.send(outlet, packet, mapped, payload_types.media, self.moment, self.sink) {
            return;
        }
        self.metrics.rtp_packets_out += 1;
        self.metrics.rtp_bytes_out += packet.media.payload.len() as u64;
        let placed = (mapped.timestamp, packet.captured);
        let clock_rate_hz = packet.media.codec.clock_rate_hz();
        if to.stream.report(outlet, placed, clock_rate_hz, self.moment, self.sink) {
            self.metrics.sender_reports_out += 1;
        }
    }
}
