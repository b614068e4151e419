//! What subscribers tell by RTCP: reports, NACKs, keyframe requests and estimates.
//!
//! **Invariant:** nothing a subscriber names is taken for granted: an SSRC, a sequence number or a packet that is not its
//! own to ask for is passed over; and what one datagram brings about is bounded.

use std::time::Instant;

use super::Hub;
use super::broadcasts::{Broadcast, Track};
use super::io::SessionId;
use super::keys::{PeerKey, TimerOwner};
use super::line::{Attachment, Line};
use super::peer::Peer;
use crate::egress::fanout::Target;
use crate::egress::sink::DatagramSink;
use crate::egress::stream::{Reception, Repair};
use crate::rtp::codec::{Codec, TrackKind};
use crate::rtp::header::DatagramKind;
use crate::rtp::rtcp::{LostSequences, ReportBlock, Rtcp, packets};

/// The longest SRTCP packet that is taken, in bytes: an Ethernet frame's.
const COMPOUND_MAX_BYTES: usize = 1_500;

/// How many RTCP packets of one compound are looked at.
const PACKETS_MAX: usize = 32;

/// How many sequence numbers of one NACK are looked up: more are missing only when all is.
const LOST_MAX: usize = 256;

impl Hub {
    /// Takes what a subscriber sent under a first byte of RTP or RTCP.
    pub(super) fn take_feedback(&mut self, now: Instant, key: PeerKey, datagram: &[u8], sink: &mut dyn DatagramSink) {
        let outlet_key = self.peers.get(key).and_then(|peer| peer.outlet);
        let mut buffer = [0; COMPOUND_MAX_BYTES];
        let (Some(outlet_key), Some(copy), DatagramKind::Rtcp) =
            (outlet_key, buffer.get_mut(..datagram.len()), DatagramKind::classify(datagram))
        else {
            self.metrics.rtcp_refused += 1;
            return;
        };
        copy.copy_from_slice(datagram);
        let Some(compound) = self.outlets.get_mut(outlet_key).and_then(|outlet| outlet.open(copy)) else {
            self.metrics.rtcp_refused += 1;
            return;
        };
        self.metrics.rtcp_in += 1;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.heard(now);
        }
        for packet in packets(compound).take(PACKETS_MAX) {
            match packet {
                Ok(Rtcp::ReceiverReport(_, blocks) | Rtcp::SenderReport(_, blocks)) => {
                    for block in blocks {
                        self.note_reception(now, key, &block);
                    }
                }
                Ok(Rtcp::Nack { media_ssrc, lost, .. }) => self.repair(now, key, media_ssrc, lost, sink),
                Ok(Rtcp::PictureLoss { media_ssrc, .. }) => self.keyframe_requested(now, key, media_ssrc),
                Ok(Rtcp::FullIntra { requests, .. }) => {
                    for (media_ssrc, _) in requests.take(PACKETS_MAX) {
                        self.keyframe_requested(now, key, media_ssrc);
                    }
                }
                Ok(Rtcp::ReceiverBitrate { rate_bps, .. }) => {
                    if let Some(outlet) = self.outlets.get_mut(outlet_key) {
                        outlet.estimate_bps = Some(rate_bps);
                    }
                }
                Ok(Rtcp::SourceDescription(_) | Rtcp::Goodbye(_) | Rtcp::Other(..)) => {}
                Err(error) => {
                    tracing::trace!(%error, "RTCP of a subscriber");
                    self.metrics.rtcp_refused += 1;
                }
            }
        }
    }

    /// What each viewer told last of each track that it is sent, by sessions.
    pub fn receptions(&self) -> impl Iterator<Item = (SessionId, TrackKind, Reception)> {
        let tracks = self.broadcasts.iter().flat_map(Broadcast::tracks);
        tracks.flat_map(|track| {
            track.fanout.targets().filter_map(|target| {
                let session = self.peers.get(target.to.line.peer)?.session;
                Some((session, track.kind, target.to.stream.reception()))
            })
        })
    }

    fn note_reception(&mut self, now: Instant, key: PeerKey, block: &ReportBlock) {
        let ntp = self.config.clock.ntp_at(now);
        let Some((codec, target)) = self.target_of(key, block.ssrc) else {
            return;
        };
        if let Some(told) = target.to.stream.note_reception(block, ntp) {
            self.metrics.loss.observe(u64::from(told.fraction_lost));
            self.metrics.jitter.observe(u64::from(told.jitter) * 1_000_000 / u64::from(codec.clock_rate_hz()));
            if let Some(round_trip) = told.round_trip {
                self.metrics.round_trip.observe(u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
            }
        }
    }

    /// Sends again what a NACK asks for, as far as it is there and within the subscriber's share.
    fn repair(
        &mut self,
        now: Instant,
        key: PeerKey,
        media_ssrc: u32,
        lost: LostSequences<'_>,
        sink: &mut dyn DatagramSink,
    ) {
        self.metrics.nacks_received += 1;
        let moment = self.moment(now);
        let Some(attachment) = self.attachment_of(key, media_ssrc) else {
            return;
        };
        let Some(broadcast) = self.broadcasts.get_mut(attachment.broadcast) else {
            return;
        };
        let Some(Track { ring, fanout, .. }) = broadcast.track_mut(TrackKind::Video) else {
            return;
        };
        let Some(target) = fanout.get_mut(attachment.target).filter(|target| target.to.sends(key, media_ssrc)) else {
            return;
        };
        let Some(outlet) = self.outlets.get_mut(target.to.outlet) else {
            return;
        };
        let highest = target.rewrite().highest_sequence();
        for lost in lost.take(LOST_MAX) {
            // The one number below the highest that has these lower bits.
            let behind = (highest as u16).wrapping_sub(lost);
            let found = highest
                .checked_sub(u64::from(behind))
                .and_then(|output| target.rewrite().source_of(output))
                .and_then(|(epoch, sequence)| ring.get(u32::try_from(epoch).ok()?, sequence, now))
                .and_then(|packet| {
                    let mapped = target.rewrite().repeat(packet.source())?;
                    Some((packet, mapped, target.payload_types(packet.format)?))
                });
            let Some((packet, mapped, payload_types)) = found else {
                self.metrics.repairs_missed += 1;
                continue;
            };
            match target.to.stream.send_again(outlet, packet, mapped, payload_types, moment, sink) {
                Repair::Sent => self.metrics.rtx_packets_out += 1,
                Repair::Impossible => self.metrics.repairs_missed += 1,
                Repair::TooMuch => {
                    self.metrics.repairs_capped += 1;
                    return;
                }
            }
        }
    }

    fn keyframe_requested(&mut self, now: Instant, key: PeerKey, media_ssrc: u32) {
        self.metrics.pli_received += 1;
        let Some(attachment) = self.attachment_of(key, media_ssrc) else {
            return;
        };
        let broadcast = self.broadcasts.get_mut(attachment.broadcast);
        if let Some(track) = broadcast.and_then(|broadcast| broadcast.track_mut(TrackKind::Video)) {
            track.keyframes.want();
            self.timers.schedule(TimerOwner::Broadcast(attachment.broadcast), now);
        }
    }

    /// Where the subscriber's line that sends `ssrc` hangs.
    fn attachment_of(&mut self, key: PeerKey, ssrc: u32) -> Option<Attachment> {
        let subscriber = self.peers.get_mut(key).and_then(Peer::subscriber_mut)?;
        subscriber.slots_mut().find(|slot| slot.ssrcs.contains(&Some(ssrc)))?.attached
    }

    /// The subscriber's line that sends `ssrc`, and the codec of what it sends.
    fn target_of(&mut self, key: PeerKey, ssrc: u32) -> Option<(Codec, &mut Target<Line>)> {
        let attachment = self.attachment_of(key, ssrc)?;
        let broadcast = self.broadcasts.get_mut(attachment.broadcast)?;
        for track in broadcast.tracks.iter_mut().flatten() {
            if let Some(target) = track.fanout.get_mut(attachment.target)
                && target.to.sends(key, ssrc)
            {
                return Some((track.codec, target));
            }
        }
        None
    }
}
