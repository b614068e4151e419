//! Broadcast: the RTP packets of a publisher, as they come in.
//!
//! **Invariant:** a packet waits for no other: what came with one receive batch is a run, which the flush after it passes
//! on (`forward`).

use std::time::{Instant, UNIX_EPOCH};

use str0m::media::{Frequency, KeyframeRequestKind, MediaTime};
use str0m::rtp::{ExtensionValues, RtpPacket};

use super::Hub;
use super::broadcasts::{Place, Source, Track};
use super::io::{Event, MediaPacket, SenderReport};
use super::keyframes::KeyframeRequests;
use super::keys::{BroadcastKey, PeerKey, TimerOwner};
use super::peer::Peer;
use super::rtc::codec_of;
use crate::egress::packet::{PassedExtensions, RelayPacket};
use crate::rtp::b_frames::begins_b_frame;
use crate::rtp::codec::{Codec, TrackKind};
use crate::rtp::header::FixedHeader;
use crate::rtp::vp8::Vp8Descriptor;

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
        let recording = broadcast.recording.id;
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
        let captured = broadcast.clock.wallclock(media.timestamp, codec.clock_rate_hz(), media.sender_report, now);
        let id = &broadcast.id;
        let Some(track) = broadcast.tracks.get_mut(kind as usize).and_then(Option::as_mut) else {
            return;
        };
        // What was retransmitted or overtaken begins no picture: who waits has been denied packets that follow it, and who
        // asked did so after it was made.
        let place = track.place(source.epoch, media.sequence, now);
        match place {
            Place::Newest { skipped } => self.metrics.rtp_packets_skipped += skipped,
            Place::Late => self.metrics.rtp_packets_late += 1,
        }
        let is_newest = place != Place::Late;
        let begins = track.keyframe_start.observe(codec, &media.payload, media.timestamp);
        let starts = kind == TrackKind::Audio || (begins && is_newest);
        if starts && kind == TrackKind::Video {
            track.keyframes.arrived(now);
        }
        if !track.has_b_frames && begins_b_frame(codec, &media.payload) {
            track.has_b_frames = true;
            tracing::warn!(
                session = self.peers.get(publisher).map(|peer| peer.session.0),
                broadcast = %id,
                "the encoder sends B-frames, which players of WebRTC show out of order: set B-frames to 0 in the encoder"
            );
        }
        let vp8 = (codec == Codec::Vp8).then(|| Vp8Descriptor::parse(&media.payload).ok()).flatten();
        let relayed = RelayPacket {
            media: media.clone(),
            format: source.format,
            spec: source.spec,
            begins: starts,
            captured,
            extensions: passed(&packet.header.ext_vals),
            vp8,
        };
        if track.run.is_empty() {
            self.runs.push((key, kind));
        }
        track.run.push(relayed);
        if let Some(recording) = recording
            && self.events.len() < self.config.limits.events
        {
            self.events.push_back(Event::RecordingPacket(recording, media));
        }
    }

    /// Whether a publisher's RTP is of a source that another has taken over from. str0m is not to see it: by its mid, it
    /// would bring back the stream before, or be taken for a packet of the present one that is far ahead of all others.
    pub(super) fn is_straggler(&self, now: Instant, publisher: PeerKey, datagram: &[u8]) -> bool {
        let found = self.peers.get(publisher).and_then(|peer| {
            Some((peer, self.broadcasts.get(peer.publisher()?.broadcast)?, FixedHeader::peek(datagram)?))
        });
        found.is_some_and(|(peer, broadcast, header)| {
            let mut params = peer.rtc().codec_config().params().iter();
            let mut is_repair = || params.any(|param| param.resend() == Some(header.payload_type.into()));
            broadcast.tracks().any(|track| track.is_of_the_past(header.ssrc, now))
                || broadcast.track(TrackKind::Video).is_some_and(|track| track.repairs_the_past(header.timestamp, now))
                    && is_repair()
        })
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
        if track.is_overtaken(ssrc, *packet.seq_no) {
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
        let gone = track.switch(source, packet.header.timestamp, now);
        for gone in gone.into_iter().flatten().filter(|gone| *gone != ssrc) {
            forget_stream(peer, gone);
        }
        Some((track.kind, source))
    }

    /// Sends the publisher a PLI if one is wanted and may be sent, and sees to the next.
    pub(super) fn request_keyframe(&mut self, now: Instant, key: BroadcastKey) {
        self.request_keyframe_if(now, key, KeyframeRequests::take);
    }

    /// Sends the publisher one PLI, unless it was sent one or sent a keyframe of late.
    pub(super) fn suggest_keyframe(&mut self, now: Instant, key: BroadcastKey) {
        self.request_keyframe_if(now, key, KeyframeRequests::take_suggestion);
    }

    fn request_keyframe_if(
        &mut self,
        now: Instant,
        key: BroadcastKey,
        take: fn(&mut KeyframeRequests, Instant) -> bool,
    ) {
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        let publisher = broadcast.publisher;
        let Some(track) = broadcast.track_mut(TrackKind::Video) else {
            return;
        };
        if let (Some(source), Some(publisher)) = (track.source, publisher)
            && take(&mut track.keyframes, now)
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
}

/// Lets str0m forget a stream that is over: it would take retransmissions for that stream's which are the present one's.
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
fn passed(from: &ExtensionValues) -> PassedExtensions {
    let voice = if from.voice_activity == Some(true) { 0x80 } else { 0 };
    let hundredths = |time: MediaTime| (time.rebase(Frequency::HUNDREDTHS).numer() & 0xfff) as u32;
    PassedExtensions {
        audio_level: from.audio_level.map(|level| voice | (level.unsigned_abs() & 0x7f)),
        video_orientation: from.video_orientation.map(|orientation| orientation as u8),
        playout_delay: from.play_delay_min.zip(from.play_delay_max).map(|(min, max)| {
            let [_, high, middle, low] = (hundredths(min) << 12 | hundredths(max)).to_be_bytes();
            [high, middle, low]
        }),
    }
}
