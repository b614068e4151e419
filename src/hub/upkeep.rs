//! What a broadcast does as time passes.
//!
//! **Invariant:** once a second is often enough: what a broadcaster is told does not grow with what its viewers do.

use std::time::Instant;

use super::Hub;
use super::config::{BROADCAST_TICK, DEADLINE};
use super::io::News;
use super::keys::{BroadcastKey, PeerKey, TimerOwner};
use super::peer::ChannelUse;
use crate::signal::message::ErrorCode;
use crate::signal::{LeaveReason, ServerMessage};

impl Hub {
    /// What a broadcast does as time passes: keyframe requests, its deadline, and once a second its figures.
    pub(super) fn tick_broadcast(&mut self, now: Instant, key: BroadcastKey) {
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        if broadcast.live_since.is_none() && now >= broadcast.media_by {
            self.metrics.timeouts += 1;
            let publisher = broadcast.publisher;
            let session = publisher.and_then(|peer| self.peers.get(peer)).map(|peer| peer.session);
            if let Some(session) = session {
                let message = format!("no media came within {} s of registering", DEADLINE.as_secs());
                self.signal(session, None, ServerMessage::error(ErrorCode::Internal, message));
            }
            self.end_broadcast(now, key, LeaveReason::Timeout);
            return;
        }
        if now >= broadcast.tick_at {
            broadcast.tick_at = now + BROADCAST_TICK;
            broadcast.measure(now);
            let count = broadcast.viewers.len();
            let changed = broadcast.viewers_told != count;
            broadcast.viewers_told = count;
            let has_video = broadcast.video_at.is_some_and(|at| now < at + BROADCAST_TICK);
            let id = broadcast.id.clone();
            let publisher = broadcast.publisher;
            if changed {
                self.notify(id.clone(), News::Viewers { count });
            }
            if let Some(publisher) = publisher {
                self.tell_publisher(
                    publisher,
                    has_video,
                    changed.then_some(ServerMessage::Viewers { broadcast: id, count }),
                );
            }
        }
        self.request_keyframe(now, key);
        if let Some(broadcast) = self.broadcasts.get(key) {
            self.timers.schedule(TimerOwner::Broadcast(key), broadcast.wake_at(now));
        }
    }

    fn tell_publisher(&mut self, key: PeerKey, has_video: bool, viewers: Option<ServerMessage>) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if has_video {
            let channels: Vec<_> = peer
                .channels
                .iter()
                .filter(|(_, used)| *used == ChannelUse::VideoCheck)
                .map(|(channel, _)| *channel)
                .collect();
            for channel in channels {
                peer.write_channel(channel, false, b"video-ok");
            }
        }
        let session = peer.session;
        if let Some(message) = viewers {
            self.signal(session, None, message);
        }
        self.peers.mark(key);
    }
}
