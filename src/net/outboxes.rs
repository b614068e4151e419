//! Where the hub's events go: clients' message queues and recorders' packet queues.
//!
//! **Invariant:** nothing here waits: a client that does not keep up loses its session, a recorder loses packets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::handle::{NewRecording, RECORDING_PACKETS_MAX};
use crate::hub::io::{Door, Event, MediaPacket, Notice, RecordingId, SessionId};
use crate::signal::Signal;

struct Outbox {
    door: Door,
    signals: mpsc::Sender<Box<Signal>>,
}

struct PacketQueue {
    packets: mpsc::Sender<MediaPacket>,
    dropped: Arc<AtomicU64>,
}

/// All queues out of the hub's thread.
pub struct Outboxes {
    sessions: HashMap<SessionId, Outbox>,
    recordings: HashMap<RecordingId, PacketQueue>,
    new_recordings: mpsc::Sender<NewRecording>,
    notices: broadcast::Sender<Arc<Notice>>,
}

impl Outboxes {
    /// None yet; recordings are announced to `new_recordings`, and what is nobody's in particular goes to `notices`.
    pub fn new(new_recordings: mpsc::Sender<NewRecording>, notices: broadcast::Sender<Arc<Notice>>) -> Self {
        Self { sessions: HashMap::new(), recordings: HashMap::new(), new_recordings, notices }
    }

    /// A session's messages go to `signals` from now on.
    pub fn open(&mut self, session: SessionId, door: Door, signals: mpsc::Sender<Box<Signal>>) {
        self.sessions.insert(session, Outbox { door, signals });
    }

    /// A session's attachment is gone.
    pub fn close(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Sessions whose attachment is gone without a word.
    pub fn abandoned(&self) -> Vec<SessionId> {
        let mut gone: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, outbox)| outbox.signals.is_closed())
            .map(|(session, _)| *session)
            .collect();
        gone.sort_unstable();
        gone
    }

    /// Passes one event on; returns the session that could not take it and is to be closed.
    pub fn deliver(&mut self, event: Event) -> Option<SessionId> {
        match event {
            Event::Signal(session, signal) => {
                let outbox = self.sessions.get(&session)?;
                if let Err(TrySendError::Full(_)) = outbox.signals.try_send(Box::new(signal)) {
                    tracing::warn!(session = session.0, "a client does not read its messages: its session is over");
                    return Some(session);
                }
                None
            }
            Event::Ended(session) => {
                // A WHIP or WHEP resource is its peer; a WebSocket may begin again.
                if self.sessions.get(&session)?.door == Door::WebSocket {
                    return None;
                }
                Some(session)
            }
            Event::RecordingStarted { recording, session, broadcast, tracks } => {
                let (sender, packets) = mpsc::channel(RECORDING_PACKETS_MAX);
                let dropped = Arc::new(AtomicU64::new(0));
                let queue = PacketQueue { packets: sender, dropped: Arc::clone(&dropped) };
                let new = NewRecording { recording, session, broadcast, tracks, packets, dropped };
                match self.new_recordings.try_send(new) {
                    Ok(()) => {
                        self.recordings.insert(recording, queue);
                    }
                    Err(error) => {
                        tracing::error!(session = session.0, %error, "a broadcast is not recorded: the recorder does not respond");
                    }
                }
                None
            }
            Event::RecordingPacket(recording, packet) => {
                let queue = self.recordings.get(&recording)?;
                if let Err(TrySendError::Full(_)) = queue.packets.try_send(packet) {
                    queue.dropped.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
            Event::RecordingEnded(recording) => {
                self.recordings.remove(&recording);
                None
            }
            Event::Notice(notice) => {
                if self.notices.receiver_count() > 0 {
                    // Whoever listened last may have stopped just now.
                    let _ = self.notices.send(Arc::new(notice));
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::SIGNALS_MAX;
    use crate::hub::io::News;
    use crate::signal::ServerMessage;

    #[test]
    fn a_client_that_does_not_read_is_named() {
        let mut outboxes = Outboxes::new(mpsc::channel(1).0, broadcast::channel(1).0);
        let (sender, _receiver) = mpsc::channel(SIGNALS_MAX);
        outboxes.open(SessionId(1), Door::WebSocket, sender);
        let pong = || Event::Signal(SessionId(1), ServerMessage::Pong.into());
        assert!((0..SIGNALS_MAX).all(|_| outboxes.deliver(pong()).is_none()));
        assert_eq!(outboxes.deliver(pong()), Some(SessionId(1)));
    }

    #[test]
    fn the_end_of_a_peer_is_the_end_of_a_resource_but_not_of_a_websocket() {
        let mut outboxes = Outboxes::new(mpsc::channel(1).0, broadcast::channel(1).0);
        let (sender, receiver) = mpsc::channel(1);
        outboxes.open(SessionId(1), Door::WebSocket, sender.clone());
        outboxes.open(SessionId(2), Door::Whip, sender);
        assert_eq!(outboxes.deliver(Event::Ended(SessionId(1))), None);
        assert_eq!(outboxes.deliver(Event::Ended(SessionId(2))), Some(SessionId(2)));
        drop(receiver);
        assert_eq!(outboxes.abandoned(), [SessionId(1), SessionId(2)]);
    }

    #[test]
    fn notices_reach_all_who_listen_and_end_with_the_hubs_thread() {
        let (handle, port, _recordings) = crate::handle::bridge().unwrap();
        let mut outboxes = Outboxes::new(port.recordings.clone(), port.notices.clone());
        let notice = |seq| Notice { seq, broadcast: "r/u".parse().unwrap(), news: News::Viewers { count: 1 } };
        assert_eq!(outboxes.deliver(Event::Notice(notice(1))), None);
        let mut listeners = [handle.notices().unwrap(), handle.notices().unwrap()];
        outboxes.deliver(Event::Notice(notice(2)));
        drop((outboxes, port));
        for listener in &mut listeners {
            assert_eq!(*listener.try_recv().unwrap(), notice(2));
            assert_eq!(listener.try_recv().unwrap_err(), broadcast::error::TryRecvError::Closed);
        }
        assert!(handle.notices().is_err());
    }
}
