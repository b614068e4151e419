//! Broadcast: one RTP packet of a publisher, to all its subscribers and its recorder.
//!
//! **Invariant:** a packet is passed on in the call that brought it; nothing is queued here, and no subscriber is waited
//! for.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use str0m::format::CodecSpec;
use str0m::media::KeyframeRequestKind;
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Vp8Descriptor};

use super::Hub;
use super::broadcasts::{Source, Track};
use super::error::Refusal;
use super::io::{Event, HubMetrics, MediaPacket, SenderReport};
use super::keys::{BroadcastKey, PeerKey, TimerOwner};
use super::peer::Peer;
use super::peers::Peers;
use super::rtc::{codec_of, payload_type_for};
use super::subscriber::SlotRef;
use crate::egress::fanout::PacketWriter;
use crate::rtp::codec::TrackKind;
use crate::rtp::rewrite::Mapped;
use crate::signal::message::ErrorCode;

/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_EPOCH_SECONDS: u64 = 2_208_988_800;

impl Hub {
    pub(super) fn relay(&mut self, now: Instant, publisher: PeerKey, packet: RtpPacket) {
        let Some(key) = self.peers.get(publisher).and_then(|peer| Some(peer.publisher()?.broadcast)) else {
            return;
        };
        let Some((kind, source)) = self.source_of(now, publisher, key, &packet) else {
            return;
        };
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        let goes_live = broadcast.live_since.is_none();
        if goes_live {
            self.go_live(now, key);
        }
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        self.metrics.rtp_packets_in += 1;
        self.metrics.rtp_bytes_in += packet.payload.len() as u64;
        broadcast.count(packet.payload.len());
        if kind == TrackKind::Video {
            broadcast.video_at = Some(now);
        }
        let recording = broadcast.recording;
        let Some(codec) = codec_of(&source.spec) else {
            return;
        };
        let media = MediaPacket {
            kind,
            codec,
            epoch: source.epoch,
            sequence: *packet.seq_no,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            sender_report: sender_report(&packet),
            arrival: now,
            payload: packet.payload,
        };
        let wallclock = broadcast.clock.wallclock(media.timestamp, codec.clock_rate_hz(), media.sender_report, now);
        let Some(track) = broadcast.track_mut(kind) else {
            return;
        };
        // What was retransmitted or overtaken begins no picture: who waits has been denied packets that follow it, and who
        // asked did so after it was made.
        let is_newest = track.advances(source.epoch, media.sequence, now);
        let begins = track.keyframe_start.observe(codec, &media.payload, media.timestamp);
        let starts = kind == TrackKind::Audio || (begins && is_newest);
        if starts && kind == TrackKind::Video {
            track.keyframes.arrived();
        }
        let mut writer = StreamWriter {
            peers: &mut self.peers,
            metrics: &mut self.metrics,
            extensions: extensions(&packet.header.ext_vals),
            media: &media,
            spec: &source.spec,
            wallclock,
            refused: Vec::new(),
        };
        let forwarded = track.fanout.forward(&media, starts, source.format, now, &mut writer);
        let refused = writer.refused;
        if forwarded.waiting > 0 {
            track.keyframes.want();
        }
        if track.keyframe_due(now).is_some_and(|due| due <= now) {
            self.request_keyframe(now, key);
        }
        for slot in refused {
            self.tell_unsupported(slot);
        }
        if let Some(recording) = recording
            && self.events.len() < self.config.limits.events
        {
            self.events.push_back(Event::RecordingPacket(recording, media));
        }
    }

    /// The track that a packet belongs to and the source that it comes from; notes a new source.
    fn source_of(
        &mut self,
        now: Instant,
        publisher: PeerKey,
        key: BroadcastKey,
        packet: &RtpPacket,
    ) -> Option<(TrackKind, Source)> {
        let (ssrc, payload_type) = (*packet.header.ssrc, *packet.header.payload_type);
        let broadcast = self.broadcasts.get_mut(key)?;
        let known = |track: &&Track| {
            track.source.is_some_and(|source| source.ssrc == ssrc && source.payload_type == payload_type)
        };
        if let Some((kind, source)) = broadcast.tracks().find(known).and_then(|track| Some((track.kind, track.source?)))
        {
            return Some((kind, source));
        }
        let peer = self.peers.get_mut(publisher)?;
        let mid =
            peer.guard(|rtc| rtc.direct_api().stream_rx(&packet.header.ssrc).map(|stream| stream.mid())).ok()??;
        let mut params = peer.rtc().codec_config().params().iter();
        let spec = params.find(|param| *param.pt() == payload_type)?.spec();
        let codec = codec_of(&spec)?;
        let track = broadcast.tracks.iter_mut().flatten().find(|track| track.mid == mid)?;
        if codec.kind() != track.kind {
            return None;
        }
        if track.is_overtaken(ssrc, *packet.seq_no, now) {
            if track.source.is_some_and(|source| source.ssrc != ssrc) {
                forget_stream(peer, ssrc);
            }
            return None;
        }
        let epoch = match track.source {
            Some(source) if source.ssrc == ssrc => source.epoch,
            _ => {
                self.last_epoch = self.last_epoch.wrapping_add(1);
                self.last_epoch
            }
        };
        let format = match track.source {
            Some(source) if source.spec == spec => source.format,
            _ => {
                self.last_format = self.last_format.wrapping_add(1);
                self.last_format
            }
        };
        track.codec = codec;
        let source = Source { ssrc, epoch, payload_type, spec, format };
        for gone in track.switch(source).into_iter().flatten().filter(|gone| *gone != ssrc) {
            forget_stream(peer, gone);
        }
        Some((track.kind, source))
    }

    /// Sends the publisher a PLI if one is wanted and may be sent, and sees to the next.
    pub(super) fn request_keyframe(&mut self, now: Instant, key: BroadcastKey) {
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        let publisher = broadcast.publisher;
        let Some(track) = broadcast.track_mut(TrackKind::Video) else {
            return;
        };
        if let (Some(source), Some(publisher)) = (track.source, publisher)
            && track.keyframes.take(now)
        {
            let sent = self.peers.get_mut(publisher).map(|peer| {
                peer.guard(|rtc| {
                    if let Some(stream) = rtc.direct_api().stream_rx(&source.ssrc.into()) {
                        stream.request_keyframe(KeyframeRequestKind::Pli);
                    }
                })
            });
            if matches!(sent, Some(Ok(()))) {
                self.metrics.pli_sent += 1;
                self.peers.mark(publisher);
            }
        }
        self.timers.schedule(TimerOwner::Broadcast(key), broadcast.wake_at(now));
    }

    fn tell_unsupported(&mut self, slot: SlotRef) {
        let Some(peer) = self.peers.get(slot.peer) else {
            return;
        };
        let Some(broadcast) = peer.subscriber().and_then(|subscriber| subscriber.broadcast_of(slot.mid)) else {
            return;
        };
        let reason = "your client cannot play this broadcast's codec";
        let refusal = Refusal::new(ErrorCode::UnsupportedCodec, reason).about(broadcast);
        let session = peer.session;
        self.signal(session, None, refusal.into());
    }
}

/// Lets str0m forget a stream that a packet which came late has left on an m-line: it would take retransmissions for that
/// stream's which are the present one's.
fn forget_stream(peer: &mut Peer, ssrc: u32) {
    // A peer that panics in there ends when it is polled next.
    let _ = peer.guard(|rtc| rtc.direct_api().remove_stream_rx(ssrc.into()));
}

/// The sender report that str0m keeps for the packet's stream.
fn sender_report(packet: &RtpPacket) -> Option<SenderReport> {
    // A report from before the first packet says nothing of its timestamps, though it has the field.
    let info = packet.last_sender_info.filter(|info| info.sender_packet_count > 0)?;
    let since_1970 = info.ntp_time.duration_since(UNIX_EPOCH).ok()?;
    // Clocks that count from their boot are clamped to 1970 by str0m: of no use.
    let seconds = since_1970.as_secs();
    if seconds == 0 {
        return None;
    }
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    Some(SenderReport {
        ntp: seconds.wrapping_add(NTP_EPOCH_SECONDS) << 32 | fraction,
        rtp: info.rtp_time.numer() as u32,
    })
}

/// The header extensions that pass through to subscribers.
fn extensions(from: &ExtensionValues) -> ExtensionValues {
    ExtensionValues {
        audio_level: from.audio_level,
        voice_activity: from.voice_activity,
        video_orientation: from.video_orientation,
        play_delay_min: from.play_delay_min,
        play_delay_max: from.play_delay_max,
        ..ExtensionValues::default()
    }
}

/// Writes one packet into subscribers' str0m streams.
struct StreamWriter<'a> {
    peers: &'a mut Peers,
    metrics: &'a mut HubMetrics,
    extensions: ExtensionValues,
    media: &'a MediaPacket,
    spec: &'a CodecSpec,
    wallclock: Instant,
    refused: Vec<SlotRef>,
}

impl PacketWriter<SlotRef> for StreamWriter<'_> {
    fn payload_type(&mut self, to: &SlotRef) -> Option<u8> {
        let rtc = self.peers.get(to.peer).map(Peer::rtc)?;
        let accepted = rtc.media(to.mid)?.remote_pts();
        let found = payload_type_for(rtc.codec_config(), accepted, self.spec);
        if found.is_none() {
            self.refused.push(*to);
        }
        found.map(|pt| *pt)
    }

    fn write(&mut self, to: &SlotRef, mapped: Mapped, payload_type: u8) {
        let Some(peer) = self.peers.get_mut(to.peer) else {
            return;
        };
        let mut write = RtpWrite::new(
            payload_type.into(),
            mapped.sequence.into(),
            mapped.timestamp,
            self.wallclock,
            Arc::clone(&self.media.payload),
        )
        .marker(self.media.marker)
        .nackable(self.media.kind == TrackKind::Video)
        .ext_vals(self.extensions.clone());
        if let Some(ids) = mapped.vp8
            && let Ok(descriptor) = Vp8Descriptor::parse(&self.media.payload)
        {
            let mut patch = descriptor.patch();
            if let Some(picture_id) = ids.picture_id {
                patch = patch.picture_id(picture_id.value);
            }
            if let Some(tl0_pic_idx) = ids.tl0_pic_idx {
                patch = patch.tl0_pic_idx(tl0_pic_idx);
            }
            if let Ok(patch) = patch.build() {
                write = write.vp8_patch(patch);
            }
        }
        let written = peer.guard(|rtc| {
            if let Some(stream) = rtc.direct_api().stream_tx_by_mid(to.mid, None) {
                stream.write_rtp(write);
            }
        });
        if written.is_ok() {
            self.metrics.rtp_packets_out += 1;
            self.metrics.rtp_bytes_out += self.media.payload.len() as u64;
        }
        self.peers.mark(to.peer);
    }
}
