//! Who is in which room.
//!
//! **Invariant:** a room exists while someone is in it; one user has one broadcast in it.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{BroadcastKey, PeerKey};
use crate::signal::{BroadcastId, RoomId, UserId};

/// One room.
#[derive(Debug, Default)]
pub struct Room {
    /// Its broadcasts, live or about to be.
    pub broadcasts: BTreeMap<UserId, BroadcastKey>,
    /// Its subscribers.
    pub subscribers: BTreeSet<PeerKey>,
}

/// All rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<RoomId, Room>,
}

impl Rooms {
    /// The room, unless nobody is in it.
    pub fn get(&self, room: &RoomId) -> Option<&Room> {
        self.rooms.get(room)
    }

    /// How many peers are in the room.
    pub fn peers_in(&self, room: &RoomId) -> usize {
        self.get(room).map_or(0, |room| room.broadcasts.len() + room.subscribers.len())
    }

    /// The broadcast that is published as `id`.
    pub fn find(&self, id: &BroadcastId) -> Option<BroadcastKey> {
        self.get(&id.room)?.broadcasts.get(&id.user).copied()
    }

    /// The keys of the room's subscribers.
    pub fn subscribers(&self, room: &RoomId) -> Vec<PeerKey> {
        self.get(room).map(|room| room.subscribers.iter().copied().collect()).unwrap_or_default()
    }

    /// The keys of the room's broadcasts, in the order of their users.
    pub fn broadcasts(&self, room: &RoomId) -> Vec<BroadcastKey> {
        self.get(room).map(|room| room.broadcasts.values().copied().collect()).unwrap_or_default()
    }

    /// Every broadcast of every room, in the order of their ids.
    pub fn all_broadcasts(&self) -> impl Iterator<Item = BroadcastKey> + '_ {
        self.rooms.values().flat_map(|room| room.broadcasts.values().copied())
    }

    /// Puts a broadcast into its room.
    pub fn publish(&mut self, id: &BroadcastId, key: BroadcastKey) {
        let room = self.rooms.entry(id.room.clone()).or_default();
        room.broadcasts.insert(id.user.clone(), key);
    }

    /// Takes a broadcast out of its room.
    pub fn unpublish(&mut self, id: &BroadcastId, key: BroadcastKey) {
        self.edit(&id.room, |room| {
            if room.broadcasts.get(&id.user) == Some(&key) {
                room.broadcasts.remove(&id.user);
            }
        });
    }

    /// Puts a subscriber into its room.
    pub fn enter(&mut self, room: &RoomId, subscriber: PeerKey) {
        self.rooms.entry(room.clone()).or_default().subscribers.insert(subscriber);
    }

    /// Takes a subscriber out of its room.
    pub fn leave(&mut self, room: &RoomId, subscriber: PeerKey) {
        self.edit(room, |room| {
            room.subscribers.remove(&subscriber);
        });
    }

    /// How many rooms there are.
    pub fn count(&self) -> usize {
        self.rooms.len()
    }

    fn edit(&mut self, name: &RoomId, change: impl FnOnce(&mut Room)) {
        if let Some(room) = self.rooms.get_mut(name) {
            change(room);
            if room.broadcasts.is_empty() && room.subscribers.is_empty() {
                self.rooms.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_ends_with_its_last_peer() {
        let mut rooms = Rooms::default();
        let id: BroadcastId = "r/u".parse().unwrap();
        let broadcast = BroadcastKey { index: 0, generation: 1 };
        let peer = PeerKey { index: 0, generation: 1 };
        rooms.publish(&id, broadcast);
        rooms.enter(&id.room, peer);
        assert_eq!((rooms.count(), rooms.peers_in(&id.room), rooms.find(&id)), (1, 2, Some(broadcast)));
        rooms.unpublish(&id, BroadcastKey { index: 0, generation: 2 });
        assert_eq!(rooms.find(&id), Some(broadcast), "another stint's end is not this one's");
        rooms.unpublish(&id, broadcast);
        rooms.leave(&id.room, peer);
        assert_eq!((rooms.count(), rooms.find(&id)), (0, None));
    }
}
