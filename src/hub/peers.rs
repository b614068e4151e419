//! All peers, and which of them are to be polled.
//!
//! **Invariant:** a peer stands on the list of those to be polled once, however often it was marked.

use slab::Slab;

use super::keys::PeerKey;
use super::peer::Peer;

/// The slab of peers, and which of them have something to send.
#[derive(Debug, Default)]
pub struct Peers {
    /// Each in a place of its own: a peer is 10 KiB, and a slab that grows moves them all.
    slab: Slab<(u32, Box<Peer>)>,
    next_generation: u32,
    dirty: Vec<PeerKey>,
}

impl Peers {
    /// Takes a peer in.
    pub fn insert(&mut self, peer: Peer) -> PeerKey {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let index = self.slab.insert((generation, Box::new(peer))) as u32;
        PeerKey { index, generation }
    }

    /// The peer of `key`, unless it is gone.
    pub fn get(&self, key: PeerKey) -> Option<&Peer> {
        let (generation, peer) = self.slab.get(key.index as usize)?;
        (*generation == key.generation).then_some(peer)
    }

    /// The peer of `key`, unless it is gone.
    pub fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let (generation, peer) = self.slab.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(peer)
    }

    /// Takes the peer of `key` out.
    pub fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        self.get(key)?;
        Some(*self.slab.remove(key.index as usize).1)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.slab.len()
    }

    /// All peers, in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.slab.iter().map(|(index, (generation, peer))| {
            let key = PeerKey { index: index as u32, generation: *generation };
            (key, &**peer)
        })
    }

    /// Notes that the peer of `key` is to be polled.
    pub fn mark(&mut self, key: PeerKey) {
        if let Some(peer) = self.get_mut(key)
            && !std::mem::replace(&mut peer.dirty, true)
        {
            self.dirty.push(key);
        }
    }

    /// A peer that is to be polled; it is not marked any more.
    pub fn pop_dirty(&mut self) -> Option<PeerKey> {
        while let Some(key) = self.dirty.pop() {
            if let Some(peer) = self.get_mut(key) {
                peer.dirty = false;
                return Some(key);
            }
        }
        None
    }
}
