//! Register, renegotiate, unregister: the commands of a broadcaster.
//!
//! **Invariant:** a live broadcast is taken over only after the newcomer's offer has been accepted; a refused command has
//! changed nothing.

use std::time::Instant;

use str0m::Rtc;
use str0m::change::SdpOffer;
use str0m::media::{Media, MediaKind, Mid};

use super::Hub;
use super::broadcasts::{Broadcast, Track};
use super::error::Refusal;
use super::io::{Door, SessionId};
use super::keys::{BroadcastKey, PeerKey, TimerOwner};
use super::peer::{Peer, Role, guard};
use super::publisher::Publisher;
use super::rtc::codec_of;
use super::standing_offer::StandingOffer;
use crate::rtp::codec::{Codec, TrackKind};
use crate::signal::answer::{candidates, m_lines, with_start_bitrate};
use crate::signal::foreign::{Foreign, OfferOptions, Role as Side};
use crate::signal::message::ErrorCode;
use crate::signal::{BroadcastId, LeaveReason, ServerMessage};

impl Hub {
    pub(super) fn register(
        &mut self,
        now: Instant,
        session: SessionId,
        id: &Option<String>,
        broadcast: BroadcastId,
        offer: &str,
    ) -> Result<(), Refusal> {
        self.check_free(session)?;
        let taken_over = self.rooms.find(&broadcast);
        if taken_over.is_none() {
            self.check_room(&broadcast.room)?;
            let max = self.config.limits.broadcasts_per_room;
            if self.rooms.get(&broadcast.room).is_some_and(|room| room.broadcasts.len() >= max) {
                return Err(Refusal::too_many(format!("the room has its {max} broadcasts")));
            }
        }
        let offer = Foreign::offer(offer, self.offer_options(Side::Publisher)).map_err(Refusal::sdp)?;
        let mut rtc = self.factory.publisher(self.recordable, now);
        let answer = accept(&mut rtc, &offer)?;
        let tracks = tracks_of(&rtc, &answer);
        if tracks.iter().all(Option::is_none) {
            return Err(no_codec(&offer));
        }
        let by_whip = self.sessions.get(session).is_some_and(|entry| entry.door == Door::Whip);
        if by_whip {
            check_whole(&rtc, &offer, &answer)?;
        }
        if let Some(older) = taken_over {
            self.end_broadcast(now, older, LeaveReason::Replaced);
        }
        let answer = self.finish_answer(&offer, &answer);
        let remote_candidates = candidates(offer.sdp());
        let recording = self.config.record.wants(&broadcast) && self.is_recordable(&tracks) && !self.recording_paused;

        let key = self.broadcasts.insert(Broadcast::new(broadcast.clone(), now));
        let role = Role::Publisher(Publisher { broadcast: key, m_lines: m_lines(offer.sdp()) });
        let mut peer = Peer::new(rtc, session, role, now);
        peer.remote_candidates = remote_candidates;
        peer.standing = by_whip.then(|| Box::new(StandingOffer::new(offer)));
        let peer = self.admit(now, session, peer);
        if let Some(entry) = self.broadcasts.get_mut(key) {
            entry.publisher = Some(peer);
            entry.tracks = tracks;
            self.timers.schedule(TimerOwner::Broadcast(key), entry.wake_at(now));
        }
        self.rooms.publish(&broadcast, key);
        tracing::info!(session = session.0, %broadcast, recording, "registered");
        let message = ServerMessage::Registered { broadcast, sdp: answer, recording };
        self.signal(session, id.clone(), message);
        Ok(())
    }

    pub(super) fn renegotiate(
        &mut self,
        now: Instant,
        session: SessionId,
        id: &Option<String>,
        offer: &str,
    ) -> Result<(), Refusal> {
        let (peer, key) = self.publisher_of(session)?;
        let offer = Foreign::offer(offer, self.offer_options(Side::Publisher)).map_err(Refusal::sdp)?;
        let parsed = SdpOffer::from_sdp_string(offer.sdp()).map_err(Refusal::bad_sdp)?;
        let entry = self.peers.get_mut(peer).ok_or_else(gone)?;
        let offered = m_lines(offer.sdp());
        // str0m would find out when it has restarted ICE already.
        let is_stopped = |mid: &str| entry.rtc().media(mid.into()).is_some_and(Media::disabled);
        if !entry.publisher().is_some_and(|publisher| publisher.may_offer(&offered, is_stopped)) {
            return Err(Refusal::bad_sdp("an offer keeps the m-lines of the last one, in their order"));
        }
        let accepted = entry
            .guard(|rtc| rtc.sdp_api().accept_offer(parsed))
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let answer = accepted.map_err(Refusal::bad_sdp)?.to_sdp_string();
        let tracks = tracks_of(entry.rtc(), &answer);
        if let Role::Publisher(publisher) = &mut entry.role {
            publisher.m_lines = offered;
        }
        self.route_ufrag(now, peer);
        self.peers.mark(peer);
        self.replace_tracks(now, key, tracks);
        let sdp = self.finish_answer(&offer, &answer);
        self.signal(session, id.clone(), ServerMessage::Answer { sdp });
        Ok(())
    }

    pub(super) fn unregister(&mut self, now: Instant, session: SessionId, id: &Option<String>) -> Result<(), Refusal> {
        let (_, key) = self.publisher_of(session)?;
        self.end_broadcast(now, key, LeaveReason::Left);
        self.signal(session, id.clone(), ServerMessage::Unregistered);
        Ok(())
    }

    /// What is let through of a foreign offer.
    pub(super) fn offer_options(&self, role: Side) -> OfferOptions<'static> {
        OfferOptions { role, candidates_max: self.config.limits.candidates_per_peer, ..OfferOptions::default() }
    }

    fn publisher_of(&self, session: SessionId) -> Result<(PeerKey, BroadcastKey), Refusal> {
        self.sessions
            .get(session)
            .and_then(|entry| entry.peer)
            .and_then(|key| Some((key, self.peers.get(key)?.publisher()?.broadcast)))
            .ok_or_else(|| Refusal::bad_state("this session has registered no broadcast"))
    }

    /// The answer as the client is to see it.
    fn finish_answer(&self, offer: &Foreign, answer: &str) -> String {
        let mut answer = offer.answer(answer);
        let kbps = self.config.start_bitrate_bps / 1000;
        if let Ok(kbps) = u32::try_from(kbps)
            && kbps > 0
        {
            answer = with_start_bitrate(&answer, kbps);
        }
        answer
    }

    /// Takes over what a renegotiation changed: subscribers get or lose m-lines.
    fn replace_tracks(&mut self, now: Instant, key: BroadcastKey, tracks: [Option<Track>; 2]) {
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        let before = broadcast.kinds();
        let mut orphans = Vec::new();
        for (place, track) in broadcast.tracks.iter_mut().zip(tracks) {
            match (place.as_mut(), track) {
                (Some(stands), Some(track)) => {
                    stands.mid = track.mid;
                    if stands.source.is_none() {
                        stands.codec = track.codec;
                    }
                }
                (_, track) => {
                    if let Some(mut gone) = std::mem::replace(place, track) {
                        orphans.extend(gone.fanout.drain());
                    }
                }
            }
        }
        let changed = broadcast.kinds() != before;
        self.park(orphans);
        // Without a track that stood in the way it can be recorded.
        self.record_if_wanted(key);
        if changed {
            self.tell_tracks_changed(now, key);
        }
    }

    fn is_recordable(&self, tracks: &[Option<Track>; 2]) -> bool {
        let mut codecs = tracks.iter().flatten().map(|track| track.codec);
        codecs.all(|codec| self.recordable.contains(codec))
    }
}

fn gone() -> Refusal {
    Refusal::bad_state("this session's peer is gone")
}

/// Lets a fresh `Rtc` answer an offer.
pub(super) fn accept(rtc: &mut Rtc, offer: &Foreign) -> Result<String, Refusal> {
    let parsed = SdpOffer::from_sdp_string(offer.sdp()).map_err(Refusal::bad_sdp)?;
    let accepted = guard(rtc, |rtc| rtc.sdp_api().accept_offer(parsed))
        .map_err(|_| Refusal::bad_sdp("this offer cannot be processed"))?;
    Ok(accepted.map_err(Refusal::bad_sdp)?.to_sdp_string())
}

/// What to say when no m-line was accepted.
pub(super) fn no_codec(offer: &Foreign) -> Refusal {
    let reason = if offer.has_media() {
        "no codec in common: offer Opus, and one of the video codecs that this server accepts"
    } else {
        "the offer has no audio and no video"
    };
    let code = if offer.has_media() { ErrorCode::UnsupportedCodec } else { ErrorCode::BadSdp };
    Refusal::new(code, reason)
}

/// What a WHIP client offers is taken whole or not at all: half of a broadcast misleads who sends it (RFC 9725 §4.4.2 and
/// §4.4.3). Browsers' WebSocket sessions may offer more than is taken, and are told what became of it.
fn check_whole(rtc: &Rtc, offer: &Foreign, answer: &str) -> Result<(), Refusal> {
    if offer.is_rejected_in_part(answer) {
        let reason = "an m-line of the offer has no codec in common: offer Opus, and one of the video codecs that this server \
            accepts";
        return Err(Refusal::new(ErrorCode::UnsupportedCodec, reason));
    }
    for kind in [MediaKind::Audio, MediaKind::Video] {
        let receives = |media: &Media| media.kind() == kind && !media.disabled() && media.direction().is_receiving();
        if medias(rtc, answer).filter(|(_, media)| receives(media)).count() > 1 {
            return Err(Refusal::bad_sdp("a broadcast has one track of audio and one of video at most"));
        }
    }
    Ok(())
}

/// The m-lines of an answer as str0m wrote it, in their order.
pub(super) fn medias<'a>(rtc: &'a Rtc, answer: &'a str) -> impl Iterator<Item = (Mid, &'a Media)> {
    answer
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("a=mid:"))
        .map(Mid::from)
        .filter_map(|mid| Some((mid, rtc.media(mid)?)))
}

/// The first m-line of each kind on which the client sends.
fn tracks_of(rtc: &Rtc, answer: &str) -> [Option<Track>; 2] {
    let mut tracks = [None, None];
    for (mid, media) in medias(rtc, answer) {
        if media.disabled() || !media.direction().is_receiving() {
            continue;
        }
        let kind = match media.kind() {
            MediaKind::Audio => TrackKind::Audio,
            MediaKind::Video => TrackKind::Video,
        };
        let Some(codec) = likely_codec(rtc, media) else {
            continue;
        };
        if let Some(place @ None) = tracks.get_mut(kind as usize) {
            *place = Some(Track::new(mid, kind, codec));
        }
    }
    tracks
}

/// The codec that stands first in our answer.
fn likely_codec(rtc: &Rtc, media: &Media) -> Option<Codec> {
    let accepted = media.remote_pts();
    let mut params = rtc.codec_config().params().iter();
    let first = params.find(|param| accepted.contains(&param.pt()))?;
    codec_of(&first.spec())
}
