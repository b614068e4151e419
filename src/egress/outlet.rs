//! One subscriber's transport: where its datagrams go, what seals them, and how much repair it may ask for.
//!
//! **Invariant:** all SRTP and SRTCP toward a subscriber passes here; nothing is sealed for a datagram that has no slot.

use slab::Slab;

use super::sink::{DatagramSink, Path, Traffic};
use super::srtp::{OVERHEAD_MAX_BYTES, Opener, Sealer, StreamId};

/// The longest RTCP compound that is written here, in bytes.
const RTCP_MAX_BYTES: usize = 256;

/// What retransmissions a subscriber may ask for before it was sent anything, in bytes; and the most that it can save up.
const ALLOWANCE_MAX_BYTES: u32 = 256 * 1024;

/// Names one outlet. Unlike that of any other, also of those that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutletKey {
    index: usize,
    generation: u64,
}

/// One subscriber's transport.
pub struct Outlet {
    /// The nominated pair.
    pub path: Path,
    /// What it could receive by its own estimate (REMB), in bits a second.
    pub estimate_bps: Option<u64>,
    pub(super) sealer: Sealer,
    opener: Opener,
    allowance_bytes: u32,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("profile", &self.sealer.profile()).finish_non_exhaustive()
    }
}

impl Outlet {
    /// A transport that was just secured.
    #[must_use]
    pub fn new(path: Path, sealer: Sealer, opener: Opener) -> Self {
        Self { path, estimate_bps: None, sealer, opener, allowance_bytes: ALLOWANCE_MAX_BYTES }
    }

    /// Announces an SSRC that will be sent. `None` when there are too many.
    pub fn announce(&mut self, ssrc: u32) -> Option<StreamId> {
        self.sealer.stream(ssrc)
    }

    /// Opens an SRTCP packet where it lies; `None` for what is not the subscriber's, or was seen before.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        self.opener.open_rtcp(datagram)
    }

    /// Seals and sends the compound that `write` puts into the slot and whose length it tells; `false` when it was dropped.
    pub fn send_rtcp(&mut self, sink: &mut dyn DatagramSink, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Some(slot) = sink.reserve(self.path, Traffic::Control, RTCP_MAX_BYTES + OVERHEAD_MAX_BYTES) else {
            return false;
        };
        let Some(sealed_bytes) = write(slot).and_then(|len_bytes| self.sealer.seal_rtcp(slot, len_bytes).ok()) else {
            return false;
        };
        sink.commit(sealed_bytes);
        true
    }

    /// Media of `len_bytes` was sent: it earns as much repair.
    ///
    /// Not less: a browser asks at once for what others have overtaken. Over a path with 30 ms of jitter that is most of
    /// a stream, and what is lost hides among what is merely late.
    pub(super) fn earn(&mut self, len_bytes: usize) {
        let earned = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        self.allowance_bytes = self.allowance_bytes.saturating_add(earned).min(ALLOWANCE_MAX_BYTES);
    }

    /// Spends what a retransmission of `len_bytes` costs; `false` when that was not earned.
    pub(super) fn spend(&mut self, len_bytes: usize) -> bool {
        let cost = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        let left = self.allowance_bytes.checked_sub(cost);
        self.allowance_bytes = left.unwrap_or(self.allowance_bytes);
        left.is_some()
    }
}

/// The transports of all connected subscribers.
#[derive(Debug, Default)]
pub struct Outlets {
    slab: Slab<(u64, Outlet)>,
    last_generation: u64,
}

impl Outlets {
    /// Takes an outlet in.
    pub fn insert(&mut self, outlet: Outlet) -> OutletKey {
        self.last_generation += 1;
        let generation = self.last_generation;
        OutletKey { index: self.slab.insert((generation, outlet)), generation }
    }

    /// The outlet of `key`, unless it is gone.
    #[inline]
    pub fn get_mut(&mut self, key: OutletKey) -> Option<&mut Outlet> {
        let (generation, outlet) = self.slab.get_mut(key.index)?;
        (*generation == key.generation).then_some(outlet)
    }

    /// Takes the outlet of `key` out, and its keys with it.
    pub fn remove(&mut self, key: OutletKey) {
        if self.get_mut(key).is_some() {
            self.slab.remove(key.index);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}
