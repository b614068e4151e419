//! What one subscriber receives: lanes of m-lines, and the one exchange of offer and answer that may be under way.
//!
//! **Invariant:** m-lines are never dropped or reordered: they become inactive and are used again, by the broadcast they
//! last carried first of all; and only one offer waits for its answer at a time.

use std::collections::BTreeSet;
use std::time::Instant;

use str0m::Rtc;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};

use super::config::DEADLINE;
use super::error::Refusal;
use super::keys::BroadcastKey;
use super::lane::{Lane, Slot};
use crate::rtp::codec::TrackKind;
use crate::signal::message::Track;
use crate::signal::{BroadcastId, RoomId, UserId};

/// A broadcast as a subscriber's plan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which one.
    pub broadcast: BroadcastId,
    /// Whether it has audio, and video.
    pub kinds: [bool; 2],
}

/// The offer that waits for its answer.
struct Exchange {
    pending: SdpPendingOffer,
    seq: u64,
    answer_by: Instant,
}

/// An offer to be signaled.
#[derive(Debug)]
pub struct Offer {
    /// The SDP.
    pub sdp: String,
    /// Its number.
    pub seq: u64,
    /// The m-lines that send.
    pub tracks: Vec<Track>,
    /// The id of the `restart` that it answers.
    pub reply_to: Option<String>,
}

/// The state of one subscriber.
pub struct Subscriber {
    /// The room.
    pub room: RoomId,
    /// The one user wanted.
    pub user: Option<UserId>,
    /// The broadcasts of the room that were selected; all without it.
    pub selection: Option<BTreeSet<BroadcastId>>,
    /// Whether the server makes the offers. WHEP players made theirs.
    pub offers: bool,
    /// Its lanes, in the order in which they were added.
    pub lanes: Vec<Lane>,
    exchange: Option<Exchange>,
    last_seq: u64,
    /// Something changed since the offer that is pending.
    pub stale: bool,
    /// An ICE restart is wanted, for the request of that id.
    pub restart: Option<Option<String>>,
    has_channel: bool,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber")
            .field("room", &self.room)
            .field("user", &self.user)
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl Subscriber {
    /// A subscriber of `room`, or of one user in it, that has been offered nothing.
    pub fn new(room: RoomId, user: Option<UserId>, offers: bool) -> Self {
        Self {
            room,
            user,
            selection: None,
            offers,
            lanes: Vec::new(),
            exchange: None,
            last_seq: 0,
            stale: false,
            restart: None,
            has_channel: false,
        }
    }

    /// Whether it is told of this broadcast of its room.
    pub fn hears_of(&self, broadcast: &BroadcastId) -> bool {
        self.user.as_ref().is_none_or(|user| *user == broadcast.user)
    }

    /// Whether it receives this broadcast of its room.
    pub fn wants(&self, broadcast: &BroadcastId) -> bool {
        self.hears_of(broadcast) && self.selection.as_ref().is_none_or(|selected| selected.contains(broadcast))
    }

    /// By when the pending offer must be answered.
    pub fn answer_by(&self) -> Option<Instant> {
        self.exchange.as_ref().map(|exchange| exchange.answer_by)
    }

    /// Whether an offer waits for its answer.
    pub fn is_negotiating(&self) -> bool {
        self.exchange.is_some()
    }

    /// All m-lines.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.lanes.iter_mut().flat_map(Lane::slots_mut)
    }

    /// Whether something of `broadcast` is sent to it.
    pub fn is_attached_to(&self, broadcast: BroadcastKey) -> bool {
        let mut slots = self.lanes.iter().flat_map(Lane::slots);
        slots.any(|slot| slot.attached.is_some_and(|attached| attached.broadcast == broadcast))
    }

    /// The m-lines that may send and do not, each with the broadcast that it is for.
    pub fn idle_slots(&self) -> Vec<(Mid, TrackKind, BroadcastId)> {
        let mut idle = Vec::new();
        for lane in &self.lanes {
            // While an exchange is under way, a lane may still carry what a selection has left out.
            let Some(current) = lane.current.as_ref().filter(|current| self.wants(current)) else {
                continue;
            };
            let slots = lane.slots().filter(|slot| slot.is_open() && slot.attached.is_none());
            idle.extend(slots.map(|slot| (slot.mid, slot.kind, current.clone())));
        }
        idle
    }

    /// The m-line `mid`.
    pub fn slot_mut(&mut self, mid: Mid) -> Option<&mut Slot> {
        self.slots_mut().find(|slot| slot.mid == mid)
    }

    /// The broadcast that `mid` carries.
    pub fn broadcast_of(&self, mid: Mid) -> Option<&BroadcastId> {
        let lane = self.lanes.iter().find(|lane| lane.slots().any(|slot| slot.mid == mid))?;
        lane.current.as_ref()
    }

    /// Takes note of an m-line that the client's own offer brought (WHEP).
    pub fn adopt(&mut self, mid: Mid, kind: TrackKind, broadcast: &BroadcastId) {
        if self.lanes.is_empty() {
            self.lanes.push(Lane {
                stream_id: String::new(),
                current: Some(broadcast.clone()),
                last: None,
                kinds: [true; 2],
                slots: [None, None],
                begun: false,
                told_refused: false,
            });
        }
        let Some(place) = self.lanes.first_mut().and_then(|lane| lane.slots.get_mut(kind as usize)) else {
            return;
        };
        // A second m-line of one kind has nothing to carry.
        if place.is_none() {
            let mut slot = Slot::new(mid, kind);
            slot.offered = true;
            slot.accepted = true;
            *place = Some(slot);
        }
    }

    /// A broadcast went live, perhaps one that a lane carries since before it was gone for a moment.
    pub fn note_begun(&mut self, broadcast: &BroadcastId) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.current.as_ref() == Some(broadcast)) {
            lane.begun = true;
        }
    }

    /// Gives each wanted broadcast a lane; returns those for which there is none left.
    pub fn plan(&mut self, wanted: &[Wanted], lanes_max: usize) -> Vec<BroadcastId> {
        for lane in &mut self.lanes {
            let still =
                lane.current.as_ref().and_then(|current| wanted.iter().find(|wanted| wanted.broadcast == *current));
            match still {
                Some(wanted) => lane.kinds = wanted.kinds,
                None => {
                    lane.current = None;
                    lane.kinds = [false; 2];
                }
            }
        }
        let mut refused = Vec::new();
        for wanted in wanted {
            let carried = |lane: &Lane| lane.current.as_ref() == Some(&wanted.broadcast);
            if self.lanes.iter().any(carried) {
                continue;
            }
            let free = |lane: &&mut Lane| lane.current.is_none();
            let own = |lane: &&mut Lane| lane.last.as_ref() == Some(&wanted.broadcast);
            let lane = if let Some(index) = self
                .lanes
                .iter_mut()
                .position(|mut lane| free(&&mut *lane) && own(&mut lane))
                .or_else(|| self.lanes.iter_mut().position(|lane| free(&&mut *lane)))
            {
                self.lanes.get_mut(index)
            } else if self.lanes.len() < lanes_max {
                self.lanes.push(Lane {
                    stream_id: format!("lane-{}", self.lanes.len()),
                    current: None,
                    last: None,
                    kinds: [false; 2],
                    slots: [None, None],
                    begun: false,
                    told_refused: false,
                });
                self.lanes.last_mut()
            } else {
                None
            };
            match lane {
                Some(lane) => {
                    lane.current = Some(wanted.broadcast.clone());
                    lane.last = Some(wanted.broadcast.clone());
                    lane.kinds = wanted.kinds;
                    lane.begun = true;
                    lane.told_refused = false;
                }
                None => refused.push(wanted.broadcast.clone()),
            }
        }
        refused
    }

    /// Makes an offer of what was planned, if that differs from what stands; marks itself stale while one is pending.
    pub fn offer(&mut self, rtc: &mut Rtc, now: Instant) -> Option<Offer> {
        if !self.offers {
            return None;
        }
        if self.exchange.is_some() {
            self.stale = true;
            return None;
        }
        self.stale = false;
        let mut api = rtc.sdp_api();
        if !self.has_channel {
            api.add_channel("onair".to_owned());
            self.has_channel = true;
        }
        for lane in &mut self.lanes {
            let mut unchanged = std::mem::take(&mut lane.begun) && lane.current.is_some();
            for kind in [TrackKind::Audio, TrackKind::Video] {
                let send = lane.kinds.get(kind as usize).copied().unwrap_or(false);
                let Some(place) = lane.slots.get_mut(kind as usize) else {
                    continue;
                };
                match place {
                    None if send => {
                        let media = match kind {
                            TrackKind::Audio => MediaKind::Audio,
                            TrackKind::Video => MediaKind::Video,
                        };
                        let stream = Some(lane.stream_id.clone());
                        let mid = api.add_media(media, Direction::SendOnly, stream, None, None);
                        let mut slot = Slot::new(mid, kind);
                        slot.offered = true;
                        *place = Some(slot);
                        unchanged = false;
                    }
                    None => {}
                    Some(slot) if slot.rejected || slot.offered == send => {}
                    Some(slot) => {
                        let direction = if send { Direction::SendOnly } else { Direction::Inactive };
                        api.set_direction(slot.mid, direction);
                        slot.offered = send;
                        slot.accepted = false;
                        unchanged = false;
                    }
                }
            }
            if unchanged {
                lane.offer_again(&mut api);
            }
        }
        let restart = self.restart.take();
        if restart.is_some() {
            api.ice_restart(true);
        }
        let (offer, pending) = api.apply()?;
        self.last_seq += 1;
        self.exchange = Some(Exchange { pending, seq: self.last_seq, answer_by: now + DEADLINE });
        Some(Offer {
            sdp: offer.to_sdp_string(),
            seq: self.last_seq,
            tracks: self.tracks(),
            reply_to: restart.flatten(),
        })
    }

    /// Checks that an answer to offer `seq` is due.
    ///
    /// # Errors
    ///
    /// `bad-state` when no offer of that number is pending.
    pub fn check_turn(&self, seq: u64) -> Result<(), Refusal> {
        match &self.exchange {
            Some(exchange) if exchange.seq == seq => Ok(()),
            Some(exchange) => {
                let reason = format!("offer {} waits for its answer, not offer {seq}", exchange.seq);
                Err(Refusal::bad_state(reason))
            }
            None => Err(Refusal::bad_state("no offer waits for an answer")),
        }
    }

    /// Applies an answer that was checked; the exchange is over whatever comes of it.
    ///
    /// # Errors
    ///
    /// `bad-sdp` when str0m cannot take it; the peer is of no use then.
    pub fn apply_answer(&mut self, rtc: &mut Rtc, answer: SdpAnswer) -> Result<(), Refusal> {
        let Some(exchange) = self.exchange.take() else {
            return Err(Refusal::bad_state("no offer waits for an answer"));
        };
        rtc.sdp_api().accept_answer(exchange.pending, answer).map_err(Refusal::bad_sdp)?;
        for slot in self.lanes.iter_mut().flat_map(Lane::slots_mut) {
            match rtc.media(slot.mid) {
                Some(media) if media.disabled() => slot.rejected = true,
                Some(media) => slot.accepted = slot.offered && media.direction().is_sending(),
                None => slot.rejected = true,
            }
        }
        Ok(())
    }

    /// Broadcasts whose video was offered and refused, each once.
    pub fn take_refused_video(&mut self) -> Vec<BroadcastId> {
        let mut refused = Vec::new();
        for lane in &mut self.lanes {
            let is_refused = lane.slots().any(|slot| slot.kind == TrackKind::Video && slot.rejected);
            let wanted = lane.kinds.get(TrackKind::Video as usize).copied().unwrap_or(false);
            if is_refused && wanted && !lane.told_refused {
                lane.told_refused = true;
                refused.extend(lane.current.clone());
            }
        }
        refused
    }

    fn tracks(&self) -> Vec<Track> {
        let mut tracks = Vec::new();
        for lane in &self.lanes {
            let Some(broadcast) = &lane.current else {
                continue;
            };
            tracks.extend(lane.slots().filter(|slot| slot.offered && !slot.rejected).map(|slot| Track {
                mid: slot.mid.to_string(),
                broadcast: broadcast.clone(),
                kind: slot.kind,
            }));
        }
        tracks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str]) -> Vec<Wanted> {
        names.iter().map(|name| Wanted { broadcast: name.parse().unwrap(), kinds: [true, true] }).collect()
    }

    fn carried(subscriber: &Subscriber) -> Vec<Option<String>> {
        subscriber.lanes.iter().map(|lane| lane.current.as_ref().map(ToString::to_string)).collect()
    }

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| (!name.is_empty()).then(|| (*name).to_owned())).collect()
    }

    #[test]
    fn a_lane_is_used_again_by_its_last_broadcast_first_of_all() {
        let mut subscriber = Subscriber::new("r".parse().unwrap(), None, true);
        assert!(subscriber.plan(&wanted(&["r/a", "r/b", "r/c"]), 8).is_empty());
        subscriber.plan(&wanted(&["r/b"]), 8);
        assert_eq!(carried(&subscriber), some(&["", "r/b", ""]));
        subscriber.plan(&wanted(&["r/b", "r/c"]), 8);
        assert_eq!(carried(&subscriber), some(&["", "r/b", "r/c"]));
        subscriber.plan(&wanted(&["r/b", "r/c", "r/d"]), 8);
        assert_eq!(carried(&subscriber), some(&["r/d", "r/b", "r/c"]));
    }

    #[test]
    fn lanes_are_capped_and_those_left_out_are_named() {
        let mut subscriber = Subscriber::new("r".parse().unwrap(), None, true);
        let refused = subscriber.plan(&wanted(&["r/a", "r/b", "r/c"]), 2);
        assert_eq!(refused, ["r/c".parse().unwrap()]);
        assert_eq!(carried(&subscriber), some(&["r/a", "r/b"]));
    }

    #[test]
    fn a_selection_narrows_what_is_wanted_not_what_is_heard_of() {
        let mut subscriber = Subscriber::new("r".parse().unwrap(), None, true);
        let (a, b): (BroadcastId, BroadcastId) = ("r/a".parse().unwrap(), "r/b".parse().unwrap());
        assert!(subscriber.wants(&a) && subscriber.wants(&b));
        subscriber.selection = Some([a.clone()].into());
        assert!(subscriber.wants(&a) && !subscriber.wants(&b) && subscriber.hears_of(&b));
    }
}
