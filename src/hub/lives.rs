//! How peers, broadcasts and sessions begin and end.
//!
//! **Invariant:** whatever way something ends, all that pointed to it is taken back in one place: fan-outs, rooms, timers,
//! routes and counts.

use std::time::Instant;

use str0m::media::Mid;

use super::Hub;
use super::config::{DEADLINE, SILENCE_MAX};
use super::error::Refusal;
use super::io::{Event, News, SessionId};
use super::keys::{BroadcastKey, PeerKey, TimerOwner};
use super::line::Line;
use super::peer::Peer;
use crate::egress::fanout::Target;
use crate::egress::sink::DatagramSink;
use crate::rtp::rtcp::write_goodbye;
use crate::signal::message::ErrorCode;
use crate::signal::{BroadcastId, LeaveReason, RoomId, ServerMessage};

impl Hub {
    /// A session begins something only when it has nothing, and the hub has room for a handshake.
    pub(super) fn check_free(&self, session: SessionId) -> Result<(), Refusal> {
        if self.sessions.get(session).is_some_and(|entry| entry.peer.is_some()) {
            return Err(Refusal::bad_state("this session is a broadcaster or viewer already"));
        }
        let max = self.config.limits.handshakes;
        if self.handshaking >= max {
            return Err(Refusal::too_many("too many clients connect at once: try again in a moment"));
        }
        Ok(())
    }

    pub(super) fn check_room(&self, room: &RoomId) -> Result<(), Refusal> {
        let max = self.config.limits.peers_per_room;
        if self.rooms.peers_in(room) >= max {
            return Err(Refusal::too_many(format!("the room has its {max} broadcasters and viewers")));
        }
        Ok(())
    }

    /// Takes a new peer in for a session.
    pub(super) fn admit(&mut self, now: Instant, session: SessionId, mut peer: Peer) -> PeerKey {
        if peer.publisher().is_some() {
            peer.expect_connection(now);
        }
        let key = self.peers.insert(peer);
        self.sessions.set_peer(session, Some(key));
        self.handshaking += 1;
        self.route_ufrag(now, key);
        self.peers.mark(key);
        key
    }

    /// Routes STUN by the peer's present ufrag, which an ICE restart changes.
    pub(super) fn route_ufrag(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let Ok(ufrag) = peer.guard(|rtc| rtc.direct_api().local_ice_credentials().ufrag) else {
            return;
        };
        if ufrag != peer.ufrag {
            let before = std::mem::replace(&mut peer.ufrag, ufrag.clone());
            if !before.is_empty() {
                self.demux.retire(before, now);
            }
            self.demux.name(&ufrag, key);
        }
    }

    /// A broadcast's first media: it is announced, offered and recorded.
    pub(super) fn go_live(&mut self, now: Instant, key: BroadcastKey) {
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        let Some(session) = broadcast.publisher.and_then(|peer| self.peers.get(peer)).map(|peer| peer.session) else {
            return;
        };
        broadcast.live_since = Some(now);
        let id = broadcast.id.clone();
        let tracks = broadcast.track_infos();
        tracing::info!(session = session.0, broadcast = %id, "live");
        self.record_if_wanted(key);
        self.notify(id.clone(), News::Connected { session, tracks });
        for peer in self.rooms.subscribers(&id.room) {
            self.tell(peer, &id, |broadcast| ServerMessage::BroadcasterConnected { broadcast });
            if let Some(subscriber) = self.peers.get_mut(peer).and_then(Peer::subscriber_mut) {
                subscriber.note_begun(&id);
            }
            self.negotiate(now, peer);
        }
    }

    /// A live broadcast gained or lost a track.
    pub(super) fn tell_tracks_changed(&mut self, now: Instant, key: BroadcastKey) {
        let Some(broadcast) = self.broadcasts.get(key).filter(|broadcast| broadcast.live_since.is_some()) else {
            return;
        };
        let room = broadcast.id.room.clone();
        for peer in self.rooms.subscribers(&room) {
            self.negotiate(now, peer);
        }
    }

    /// Ends a broadcast and its publisher's peer; tells the viewers, and the broadcaster unless it left by itself.
    pub(super) fn end_broadcast(&mut self, now: Instant, key: BroadcastKey, reason: LeaveReason) {
        let Some(mut broadcast) = self.broadcasts.remove(key) else {
            return;
        };
        self.timers.cancel(TimerOwner::Broadcast(key));
        self.rooms.unpublish(&broadcast.id, key);
        let mut orphans = Vec::new();
        for track in broadcast.tracks.iter_mut().flatten() {
            orphans.extend(track.fanout.drain());
        }
        self.park(orphans);
        if let Some(recording) = broadcast.recording.id {
            self.events.push_back(Event::RecordingEnded(recording));
        }
        let id = broadcast.id;
        let session = broadcast.publisher.and_then(|peer| self.peers.get(peer)).map(|peer| peer.session);
        tracing::info!(session = session.map(|session| session.0), broadcast = %id, ?reason, "broadcast ended");
        if let Some(publisher) = broadcast.publisher {
            if let Some(session) = session.filter(|_| reason == LeaveReason::Replaced) {
                let message = format!("{id} was taken over by a later broadcaster");
                self.signal(session, None, ServerMessage::fatal(ErrorCode::NameTaken, message));
            }
            self.dismiss(now, publisher);
        }
        if broadcast.live_since.is_some() {
            for peer in self.rooms.subscribers(&id.room) {
                self.tell(peer, &id, |broadcast| ServerMessage::BroadcasterDisconnected { broadcast, reason });
                self.negotiate(now, peer);
            }
            self.notify(id, News::Disconnected { reason });
        }
    }

    /// Ends a subscriber.
    pub(super) fn end_subscriber(&mut self, now: Instant, key: PeerKey) {
        let Some(subscriber) = self.peers.get(key).and_then(Peer::subscriber) else {
            return;
        };
        let room = subscriber.room.clone();
        let mids: Vec<_> = subscriber.lanes.iter().flat_map(|lane| lane.slots().map(|slot| slot.mid)).collect();
        for mid in mids {
            self.detach(key, mid);
        }
        self.rooms.leave(&room, key);
        self.dismiss(now, key);
    }

    /// Stops packets on one m-line; its rewriting state stays for the next broadcast on it.
    pub(super) fn detach(&mut self, key: PeerKey, mid: Mid) {
        let Some(subscriber) = self.peers.get_mut(key).and_then(Peer::subscriber_mut) else {
            return;
        };
        let Some(slot) = subscriber.slot_mut(mid) else {
            return;
        };
        let Some(attached) = slot.attached.take() else {
            return;
        };
        let kind = slot.kind;
        let Some(broadcast) = self.broadcasts.get_mut(attached.broadcast) else {
            return;
        };
        let target = broadcast.track_mut(kind).and_then(|track| track.fanout.detach(attached.target));
        let still = subscriber.is_attached_to(attached.broadcast);
        if !still {
            broadcast.viewers.remove(&key);
        }
        if let Some(slot) = subscriber.slot_mut(mid) {
            slot.parked = target.map(Box::new);
        }
    }

    /// Gives the m-lines of a track that is gone their rewriting state back.
    pub(super) fn park(&mut self, targets: Vec<Target<Line>>) {
        for target in targets {
            let to = target.to.line;
            let Some(subscriber) = self.peers.get_mut(to.peer).and_then(Peer::subscriber_mut) else {
                continue;
            };
            let Some(slot) = subscriber.slot_mut(to.mid) else {
                continue;
            };
            let attached = slot.attached.take();
            slot.parked = Some(Box::new(target));
            let Some(attached) = attached else {
                continue;
            };
            let still = subscriber.is_attached_to(attached.broadcast);
            if let Some(broadcast) = self.broadcasts.get_mut(attached.broadcast).filter(|_| !still) {
                broadcast.viewers.remove(&to.peer);
            }
        }
    }

    /// A session's attachment is gone.
    pub(super) fn close_session(&mut self, now: Instant, session: SessionId) {
        if let Some(key) = self.sessions.close(session).and_then(|entry| entry.peer) {
            self.end_peer(now, key, LeaveReason::Left);
        }
    }

    /// Ends whatever a peer is.
    pub(super) fn end_peer(&mut self, now: Instant, key: PeerKey, reason: LeaveReason) {
        match self.peers.get(key).map(Peer::publisher) {
            Some(Some(publisher)) => {
                let broadcast = publisher.broadcast;
                self.end_broadcast(now, broadcast, reason);
            }
            Some(None) => self.end_subscriber(now, key),
            None => {}
        }
    }

    /// Tells a peer to close and frees its session; it is removed when its last words are sent.
    fn dismiss(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.close(now);
        let session = peer.session;
        if self.sessions.get(session).is_some_and(|entry| entry.peer == Some(key)) {
            self.sessions.set_peer(session, None);
        }
        self.events.push_back(Event::Ended(session));
        self.peers.mark(key);
    }

    /// Tells a subscriber that is about to go that its streams end (RFC 3550 §6.6), and gives up its keys.
    pub(super) fn say_goodbye(&mut self, key: PeerKey, sink: &mut dyn DatagramSink) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.is_closing()) else {
            return;
        };
        let Some(outlet_key) = peer.outlet.take() else {
            return;
        };
        let ssrcs: Vec<u32> = peer
            .subscriber_mut()
            .map(|subscriber| subscriber.slots_mut().filter_map(|slot| slot.ssrcs[0]).collect())
            .unwrap_or_default();
        if let Some(outlet) = self.outlets.get_mut(outlet_key).filter(|_| !ssrcs.is_empty()) {
            outlet.send_rtcp(sink, |slot| write_goodbye(&ssrcs, slot).ok());
        }
        self.outlets.remove(outlet_key);
    }

    /// Ends a peer that missed a deadline, fell silent, was closed from the other side, or broke.
    pub(super) fn end_if_over(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let session = peer.session;
        if peer.is_closing() {
            if peer.is_closed(now) {
                self.remove_peer(key);
            }
            return;
        }
        let seconds = DEADLINE.as_secs();
        let answer_is_late =
            peer.subscriber().and_then(super::subscriber::Subscriber::answer_by).is_some_and(|by| now >= by);
        let (reason, code, message) = if peer.is_broken() {
            let message = "internal error: this connection is over".to_owned();
            (LeaveReason::Failed, ErrorCode::Internal, message)
        } else if !peer.rtc().is_alive() {
            self.end_peer(now, key, LeaveReason::Left);
            return;
        } else if peer.is_overdue(now) {
            self.metrics.timeouts += 1;
            let ours: Vec<_> = self.config.candidates.iter().map(|address| format!("udp {address}")).collect();
            let message = format!(
                "no connection within {seconds} s: the server can be reached at {}, your client offered {}; is UDP open?",
                ours.join(", "),
                list(&peer.remote_candidates),
            );
            tracing::warn!(session = session.0, %message, "a peer did not connect");
            (LeaveReason::Timeout, ErrorCode::Internal, message)
        } else if answer_is_late {
            self.metrics.timeouts += 1;
            let message = format!("no answer to an offer within {seconds} s");
            (LeaveReason::Timeout, ErrorCode::BadState, message)
        } else if peer.is_silent(now) {
            self.metrics.timeouts += 1;
            let message = format!("nothing came from you for {} s", SILENCE_MAX.as_secs());
            (LeaveReason::Timeout, ErrorCode::Internal, message)
        } else {
            return;
        };
        tracing::info!(session = session.0, ?reason, "a peer is over");
        self.signal(session, None, ServerMessage::error(code, message));
        self.end_peer(now, key, reason);
    }

    fn remove_peer(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.remove(key) else {
            return;
        };
        self.timers.cancel(TimerOwner::Peer(key));
        for address in &peer.addresses {
            self.demux.unbind(*address, key);
        }
        self.demux.forget(&peer.ufrag);
        if let Some(outlet) = peer.outlet {
            self.outlets.remove(outlet);
        }
        if !peer.connected {
            self.handshaking = self.handshaking.saturating_sub(1);
        }
    }

    /// Tells everyone and closes every peer.
    pub(super) fn shutdown(&mut self, now: Instant) {
        self.stopping = true;
        for key in self.rooms.all_broadcasts().collect::<Vec<_>>() {
            self.end_broadcast(now, key, LeaveReason::Shutdown);
        }
        for (_, key) in self.sessions.with_peers() {
            self.end_peer(now, key, LeaveReason::Shutdown);
        }
    }

    /// Whether every peer has said its last word.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.peers.count() == 0
    }

    /// Whether the recorder has yet to say how a recording ended.
    #[must_use]
    pub fn awaits_recordings(&self) -> bool {
        !self.recordings.is_empty()
    }

    /// A message to a subscriber that hears of this broadcast by its session.
    fn tell(&mut self, key: PeerKey, id: &BroadcastId, message: impl FnOnce(BroadcastId) -> ServerMessage) {
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let session = peer.session;
        if peer.subscriber().is_some_and(|subscriber| subscriber.offers && subscriber.hears_of(id)) {
            self.signal(session, None, message(id.clone()));
        }
    }
}

/// Candidates for a person's eyes.
fn list(candidates: &[String]) -> String {
    if candidates.is_empty() { "none".to_owned() } else { candidates.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::config::{HubConfig, IceRole, Limits};
    use super::super::io::{Command, Door, Order};
    use super::super::record_rule::RecordRule;
    use super::*;
    use crate::egress::sink::{DatagramSink, Path, Traffic};
    use crate::rtp::codec::{Codec, CodecSet};
    use crate::rtp::test_epoch;
    use crate::signal::Signal;

    /// Takes nothing.
    struct Nowhere;

    impl DatagramSink for Nowhere {
        fn reserve(&mut self, _: Path, _: Traffic, _: usize) -> Option<&mut [u8]> {
            None
        }

        fn commit(&mut self, _: usize) {}
    }

    fn told(hub: &mut Hub, session: SessionId) -> Vec<ServerMessage> {
        let mut told = Vec::new();
        while let Some(event) = hub.poll_event() {
            match event {
                Event::Signal(to, Signal { message, .. }) if to == session => told.push(message),
                _ => {}
            }
        }
        told
    }

    #[test]
    fn a_panic_inside_one_peer_ends_that_peer_alone() {
        let now = test_epoch();
        let mut hub = Hub::new(HubConfig {
            candidates: vec![([127, 0, 0, 1], 8189).into()],
            tcp_candidates: vec![],
            ice: IceRole::Lite,
            codecs: vec![Codec::Vp8],
            start_bitrate_bps: 0,
            record: RecordRule::Off,
            recordable: CodecSet::EMPTY,
            limits: Limits::default(),
            seed: 1,
            clock: crate::rtp::ntp::WallClock::new(now, std::time::Duration::ZERO),
        });
        let sessions = [SessionId(1), SessionId(2)];
        for session in sessions {
            hub.handle_order(now, session, Order::Open { door: Door::WebSocket, remote: [127, 0, 0, 1].into() });
            let subscribe = Command::Subscribe { room: "r".parse().unwrap(), user: None };
            hub.handle_command(now, session, None, subscribe);
        }
        hub.flush(now, &mut Nowhere);
        let [broken, whole] = sessions.map(|session| hub.sessions.get(session).unwrap().peer.unwrap());
        let peer = hub.peers.get_mut(broken).unwrap();
        assert!(peer.guard(|_| panic!("as str0m might")).is_err());
        assert!(peer.guard(|_| ()).is_err(), "what has panicked is not called again");
        hub.peers.mark(broken);
        hub.flush(now, &mut Nowhere);

        assert!(hub.peers.get(broken).is_none() && hub.peers.get(whole).is_some());
        assert_eq!(hub.snapshot(now).metrics.panics, 1);
        assert_eq!(hub.sessions.get(sessions[0]).unwrap().peer, None, "its session may begin again");
        let last = told(&mut hub, sessions[0]).pop();
        assert!(matches!(last, Some(ServerMessage::Error { code: ErrorCode::Internal, .. })), "{last:?}");
        hub.handle_command(now, sessions[1], None, Command::Unsubscribe);
        assert_eq!(told(&mut hub, sessions[1]), [ServerMessage::Unsubscribed]);
    }
}
