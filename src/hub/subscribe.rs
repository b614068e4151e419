//! Subscribe, play, answer, select, restart, unsubscribe: the commands of a viewer.
//!
//! **Invariant:** changes that come while an offer is pending are folded into the next one; an answer out of turn changes
//! nothing.

use std::time::Instant;

use str0m::Candidate;
use str0m::change::SdpAnswer;
use str0m::media::MediaKind;

use super::Hub;
use super::error::Refusal;
use super::io::SessionId;
use super::keys::{PeerKey, TimerOwner};
use super::line::{Attachment, Line, LineRef};
use super::peer::{Peer, Role};
use super::publish::{accept, medias, no_codec};
use super::rtc::extension_ids;
use super::standing_offer::StandingOffer;
use super::subscriber::{Offer, Subscriber, Wanted};
use crate::egress::fanout::Target;
use crate::egress::stream::{Stream, StreamSetup};
use crate::rtp::codec::TrackKind;
use crate::rtp::rewrite::TrackRewrite;
use crate::signal::answer::{candidates, describe_candidate};
use crate::signal::foreign::{Foreign, OfferOptions, Role as Side, normalise_answer};
use crate::signal::message::ErrorCode;
use crate::signal::{BroadcastId, RoomId, ServerMessage, UserId};

impl Hub {
    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        session: SessionId,
        id: &Option<String>,
        room: RoomId,
        user: Option<UserId>,
    ) -> Result<(), Refusal> {
        self.check_free(session)?;
        self.check_room(&room)?;
        let subscriber = Subscriber::new(room.clone(), user.clone(), true);
        let broadcasts = self.live_in(&room).into_iter().map(|wanted| wanted.broadcast);
        let broadcasts = broadcasts.filter(|id| subscriber.hears_of(id)).collect();
        let (rtc, tap) = self.factory.subscriber(now);
        let peer = Peer::new(rtc, session, Role::Subscriber(Box::new(subscriber)), now).tapped(tap);
        let key = self.admit(now, session, peer);
        self.rooms.enter(&room, key);
        tracing::info!(session = session.0, %room, user = ?user, "subscribed");
        let message = ServerMessage::Subscribed { room, user, broadcasts };
        self.signal(session, id.clone(), message);
        self.negotiate(now, key);
        Ok(())
    }

    pub(super) fn play(
        &mut self,
        now: Instant,
        session: SessionId,
        id: &Option<String>,
        broadcast: BroadcastId,
        offer: &str,
    ) -> Result<(), Refusal> {
        self.check_free(session)?;
        let live = self.rooms.find(&broadcast).and_then(|key| self.broadcasts.get(key)?.live_since);
        if live.is_none() {
            let refusal = Refusal::new(ErrorCode::NotLive, format!("{broadcast} is not live"));
            return Err(refusal.about(&broadcast));
        }
        self.check_room(&broadcast.room)?;
        let options = OfferOptions { stream: Some("onair"), ..self.offer_options(Side::Subscriber) };
        let offer = Foreign::offer(offer, options).map_err(Refusal::sdp)?;
        let (mut rtc, tap) = self.factory.subscriber(now);
        let answer = accept(&mut rtc, &offer)?;
        let mut subscriber = Subscriber::new(broadcast.room.clone(), Some(broadcast.user.clone()), false);
        for (mid, media) in medias(&rtc, &answer) {
            if media.disabled() || !media.direction().is_sending() || media.remote_pts().is_empty() {
                continue;
            }
            let kind = match media.kind() {
                MediaKind::Audio => TrackKind::Audio,
                MediaKind::Video => TrackKind::Video,
            };
            subscriber.adopt(mid, kind, &broadcast);
        }
        if subscriber.lanes.is_empty() {
            return Err(no_codec(&offer));
        }
        let sdp = offer.answer(&answer);
        let mut peer = Peer::new(rtc, session, Role::Subscriber(Box::new(subscriber)), now).tapped(tap);
        peer.remote_candidates = candidates(offer.sdp());
        peer.standing = Some(Box::new(StandingOffer::new(offer)));
        let key = self.admit(now, session, peer);
        self.rooms.enter(&broadcast.room, key);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.expect_connection(now);
        }
        tracing::info!(session = session.0, %broadcast, "plays");
        self.signal(session, id.clone(), ServerMessage::Answer { sdp });
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        session: SessionId,
        _id: &Option<String>,
        answer: &str,
        seq: u64,
    ) -> Result<(), Refusal> {
        let key = self.subscriber_of(session)?;
        if let Some(subscriber) = self.peers.get(key).and_then(Peer::subscriber) {
            subscriber.check_turn(seq)?;
        }
        let answer = normalise_answer(answer).map_err(Refusal::sdp)?;
        let remote_candidates = candidates(&answer);
        let Some(peer) = self.peers.get_mut(key) else {
            return Ok(());
        };
        let checked = SdpAnswer::from_sdp_string(&answer).map_err(Refusal::bad_sdp)?;
        let applied = peer.guard_subscriber(|subscriber, rtc| subscriber.apply_answer(rtc, checked));
        let failure = match applied {
            Some(Ok(Ok(()))) => None,
            Some(Ok(Err(refusal))) => Some(refusal),
            Some(Err(_)) | None => Some(Refusal::bad_sdp("this answer cannot be processed")),
        };
        if let Some(refusal) = failure {
            // The exchange is half applied: this peer connection cannot be trusted any more.
            self.metrics.refusals += 1;
            let message = ServerMessage::fatal(refusal.code, refusal.reason);
            self.signal(session, None, message);
            self.end_subscriber(now, key);
            return Ok(());
        }
        peer.remote_candidates = remote_candidates;
        peer.expect_connection(now);
        let again = peer.subscriber().is_some_and(|subscriber| subscriber.stale || subscriber.restart.is_some());
        self.route_ufrag(now, key);
        self.peers.mark(key);
        self.attach(now, key);
        self.refresh_video(now, key);
        self.tell_refused_video(session, key);
        if again {
            self.negotiate(now, key);
        }
        Ok(())
    }

    pub(super) fn select(
        &mut self,
        now: Instant,
        session: SessionId,
        id: &Option<String>,
        broadcasts: Option<Vec<BroadcastId>>,
    ) -> Result<(), Refusal> {
        let key = self.subscriber_of(session)?;
        let subscriber = self.peers.get_mut(key).and_then(Peer::subscriber_mut);
        let Some(subscriber) = subscriber.filter(|subscriber| subscriber.user.is_none()) else {
            return Err(Refusal::bad_state("only a viewer of a whole room selects"));
        };
        if let Some(alien) = broadcasts.iter().flatten().find(|id| id.room != subscriber.room) {
            let reason = format!("{alien} is not of the room {}", subscriber.room);
            return Err(Refusal::new(ErrorCode::BadMessage, reason).about(alien));
        }
        subscriber.selection = broadcasts.map(|list| list.into_iter().collect());
        self.signal(session, id.clone(), ServerMessage::Selected);
        self.detach_unwanted(key);
        self.negotiate(now, key);
        Ok(())
    }

    pub(super) fn restart(&mut self, now: Instant, session: SessionId, id: &Option<String>) -> Result<(), Refusal> {
        let key = self.subscriber_of(session)?;
        let subscriber = self.peers.get_mut(key).and_then(Peer::subscriber_mut);
        let Some(subscriber) = subscriber.filter(|subscriber| subscriber.offers) else {
            return Err(Refusal::bad_state("only a viewer whom the server makes offers asks for a restart"));
        };
        subscriber.restart = Some(id.clone());
        self.negotiate(now, key);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, now: Instant, session: SessionId, id: &Option<String>) -> Result<(), Refusal> {
        let key = self.subscriber_of(session)?;
        self.end_subscriber(now, key);
        self.signal(session, id.clone(), ServerMessage::Unsubscribed);
        Ok(())
    }

    pub(super) fn candidate(&mut self, session: SessionId, candidate: Option<&str>) -> Result<(), Refusal> {
        let max = self.config.limits.candidates_per_peer;
        let key = self.sessions.get(session).and_then(|entry| entry.peer);
        let Some((key, peer)) = key.and_then(|key| Some((key, self.peers.get_mut(key)?))) else {
            return Err(Refusal::bad_state("a candidate belongs to a broadcaster or viewer"));
        };
        let Some(candidate) = candidate.filter(|candidate| !candidate.is_empty()) else {
            return Ok(());
        };
        if peer.candidates >= max {
            return Err(Refusal::too_many(format!("a peer has at most {max} candidates")));
        }
        peer.candidates += 1;
        if peer.remote_candidates.len() < max {
            peer.remote_candidates.extend(describe_candidate(candidate));
        }
        // mDNS names and whatever else cannot be parsed is skipped: the client's own checks will reach us.
        if let Ok(candidate) = Candidate::from_sdp_string(candidate) {
            let _ = peer.guard(|rtc| rtc.add_remote_candidate(candidate));
            self.peers.mark(key);
        }
        Ok(())
    }

    /// Plans what a subscriber receives, and offers it if that is a change.
    pub(super) fn negotiate(&mut self, now: Instant, key: PeerKey) {
        let lanes_max = self.config.limits.lanes_per_subscriber;
        let Some(subscriber) = self.peers.get(key).and_then(Peer::subscriber) else {
            return;
        };
        if !subscriber.offers {
            self.attach(now, key);
            return;
        }
        let mut wanted = self.live_in(&subscriber.room);
        wanted.retain(|wanted| subscriber.wants(&wanted.broadcast));
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let session = peer.session;
        if peer.subscriber().is_some_and(Subscriber::is_negotiating) {
            if let Some(subscriber) = peer.subscriber_mut() {
                subscriber.stale = true;
            }
            return;
        }
        let refused = peer.subscriber_mut().map(|subscriber| subscriber.plan(&wanted, lanes_max)).unwrap_or_default();
        let offered = peer.guard_subscriber(|subscriber, rtc| subscriber.offer(rtc, now));
        self.timers.schedule(TimerOwner::Peer(key), peer.wake_at());
        for broadcast in refused {
            let refusal = Refusal::too_many(format!("at most {lanes_max} broadcasts at a time: select fewer"));
            self.signal(session, None, refusal.about(&broadcast).into());
        }
        match offered {
            Some(Ok(Some(Offer { sdp, seq, tracks, reply_to }))) => {
                self.route_ufrag(now, key);
                self.signal(session, reply_to, ServerMessage::Offer { sdp, seq, tracks });
            }
            // Nothing to offer; what stands may still be waiting for its broadcast.
            Some(Ok(None)) => self.attach(now, key),
            Some(Err(_)) | None => self.peers.mark(key),
        }
    }

    /// Lets packets flow on every m-line that is negotiated and whose broadcast is live.
    pub(super) fn attach(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get(key).filter(|peer| peer.connected && !peer.is_closing()) else {
            return;
        };
        let idle = peer.subscriber().map(Subscriber::idle_slots).unwrap_or_default();
        for (mid, kind, current) in idle {
            let Some(found) = self.rooms.find(&current) else {
                continue;
            };
            let live = self.broadcasts.get(found).filter(|found| found.live_since.is_some());
            let Some(clock_rate_hz) = live.and_then(|live| Some(live.track(kind)?.codec.clock_rate_hz())) else {
                continue;
            };
            let Some(target) = self.target_for(LineRef { peer: key, mid }, clock_rate_hz) else {
                continue;
            };
            let Some(broadcast) = self.broadcasts.get_mut(found) else {
                continue;
            };
            let Some(track) = broadcast.track_mut(kind) else {
                continue;
            };
            let attachment = Attachment { broadcast: found, target: track.fanout.attach(target) };
            if kind == TrackKind::Video {
                track.keyframes.want();
                self.timers.schedule(TimerOwner::Broadcast(found), now);
            }
            broadcast.viewers.insert(key);
            let slot = self.peers.get_mut(key).and_then(Peer::subscriber_mut).and_then(|it| it.slot_mut(mid));
            if let Some(slot) = slot {
                slot.attached = Some(attachment);
            }
        }
    }

    /// The line of an m-line that hangs nowhere: the one it had, or its first.
    fn target_for(&mut self, line: LineRef, clock_rate_hz: u32) -> Option<Target<Line>> {
        let peer = self.peers.get_mut(line.peer)?;
        if let Some(parked) = peer.subscriber_mut()?.slot_mut(line.mid)?.parked.take() {
            return Some(*parked);
        }
        let outlet_key = peer.outlet?;
        let sent = peer.guard(|rtc| {
            let mut api = rtc.direct_api();
            api.stream_tx_by_mid(line.mid, None).map(|stream| (*stream.ssrc(), stream.rtx().map(|ssrc| *ssrc)))
        });
        let (ssrc, rtx_ssrc) = sent.ok()??;
        let setup = StreamSetup {
            ssrc,
            rtx_ssrc,
            random: self.random.u32(..),
            mid: &line.mid,
            extensions: extension_ids(peer.rtc().media(line.mid)?.remote_extmap()),
        };
        let outlet = self.outlets.get_mut(outlet_key)?;
        let stream = Stream::new(outlet, setup)?;
        peer.subscriber_mut()?.slot_mut(line.mid)?.ssrcs = [Some(ssrc), rtx_ssrc];
        let rewrite = TrackRewrite::new(self.random.u16(..), self.random.u32(..), clock_rate_hz);
        Some(Target::new(Line { line, outlet: outlet_key, stream }, rewrite))
    }

    /// Asks for keyframes after an exchange: Firefox rebuilds a video receiver when an m-line is added.
    fn refresh_video(&mut self, now: Instant, key: PeerKey) {
        let Some(subscriber) = self.peers.get_mut(key).and_then(Peer::subscriber_mut) else {
            return;
        };
        for slot in subscriber.slots_mut().filter(|slot| slot.kind == TrackKind::Video) {
            let Some(attached) = slot.attached.map(|attached| attached.broadcast) else {
                continue;
            };
            if let Some(track) = self.broadcasts.get_mut(attached).and_then(|it| it.track_mut(slot.kind)) {
                track.keyframes.want();
                self.timers.schedule(TimerOwner::Broadcast(attached), now);
            }
        }
    }

    /// Stops at once what a selection left out; the m-lines follow with the next offer.
    fn detach_unwanted(&mut self, key: PeerKey) {
        let Some(subscriber) = self.peers.get_mut(key).and_then(Peer::subscriber_mut) else {
            return;
        };
        let unwanted: Vec<_> = subscriber
            .lanes
            .iter()
            .filter(|lane| lane.current.as_ref().is_some_and(|current| !subscriber.wants(current)))
            .flat_map(|lane| lane.slots().map(|slot| slot.mid))
            .collect();
        for mid in unwanted {
            self.detach(key, mid);
        }
    }

    fn tell_refused_video(&mut self, session: SessionId, key: PeerKey) {
        let subscriber = self.peers.get_mut(key).and_then(Peer::subscriber_mut);
        let refused = subscriber.map(Subscriber::take_refused_video).unwrap_or_default();
        for broadcast in refused {
            let refusal =
                Refusal::new(ErrorCode::UnsupportedCodec, "your browser plays none of the video codecs offered");
            self.signal(session, None, refusal.about(&broadcast).into());
        }
    }

    /// The live broadcasts of a room, with their kinds, in the order of their users.
    fn live_in(&self, room: &RoomId) -> Vec<Wanted> {
        self.rooms
            .broadcasts(room)
            .into_iter()
            .filter_map(|key| self.broadcasts.get(key))
            .filter(|broadcast| broadcast.live_since.is_some())
            .map(|broadcast| Wanted { broadcast: broadcast.id.clone(), kinds: broadcast.kinds() })
            .collect()
    }

    fn subscriber_of(&self, session: SessionId) -> Result<PeerKey, Refusal> {
        self.sessions
            .get(session)
            .and_then(|entry| entry.peer)
            .filter(|key| self.peers.get(*key).is_some_and(|peer| peer.subscriber().is_some()))
            .ok_or_else(|| Refusal::bad_state("this session has subscribed to nothing"))
    }
}
