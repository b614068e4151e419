//! Who is let in: so many at a time in all, and so many from one address.
//!
//! **Invariant:** a [`Seat`] is held from admission to the end of what was admitted; there are never more of them than the
//! gate's caps.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::address::counted_under;

type Addresses = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Lets in up to its caps.
#[derive(Debug)]
pub struct Gate {
    seats_max: u32,
    seats_per_address_max: usize,
    seats: Arc<Semaphore>,
    addresses: Addresses,
}

/// One that was let in, for as long as it lives.
#[derive(Debug)]
pub struct Seat {
    address: Option<IpAddr>,
    addresses: Addresses,
    _one_of_all: OwnedSemaphorePermit,
}

impl Gate {
    /// An address is an IPv4 address or an IPv6 /64. Loopback is only counted in all: behind a reverse proxy, everyone
    /// comes from there.
    #[must_use]
    pub fn new(seats_max: u32, seats_per_address_max: usize) -> Self {
        let seats = Arc::new(Semaphore::new(seats_max as usize));
        Self { seats_max, seats_per_address_max, seats, addresses: Arc::default() }
    }

    /// `None` at a cap.
    #[must_use]
    pub fn admit(&self, ip: IpAddr) -> Option<Seat> {
        let one_of_all = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let address = Some(counted_under(ip)).filter(|address| !address.is_loopback());
        if let Some(address) = address {
            let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = addresses.entry(address).or_default();
            if *taken >= self.seats_per_address_max {
                return None;
            }
            *taken += 1;
        }
        Some(Seat { address, addresses: Arc::clone(&self.addresses), _one_of_all: one_of_all })
    }

    /// Waits until nobody is inside.
    pub async fn all_gone(&self) {
        // It fails only when the semaphore is closed, which nobody does.
        let _all = self.seats.acquire_many(self.seats_max).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = addresses.get_mut(&address) {
            *taken -= 1;
            if *taken == 0 {
                addresses.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_seats() {
        let gate = Gate::new(100, 10);
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        let mut seats: Vec<_> = (0..10).map(|n| gate.admit(address(n)).unwrap()).collect();
        assert!(gate.admit(address(11)).is_none(), "a neighbour in the same /64");
        assert!(gate.admit([192, 0, 2, 1].into()).is_some());
        seats.pop();
        seats.push(gate.admit(address(11)).unwrap());
        let local: Vec<_> = (0..=10).map(|_| gate.admit([127, 0, 0, 1].into())).collect();
        assert!(local.iter().all(Option::is_some), "a proxy on this machine stands for many clients");
        seats.clear();
        assert!(gate.addresses.lock().unwrap().is_empty());
    }

    #[test]
    fn all_together_cannot_take_more_than_there_are() {
        let gate = Gate::new(2, 10);
        let seats = [gate.admit([127, 0, 0, 1].into()), gate.admit([192, 0, 2, 1].into())];
        assert!(seats.iter().all(Option::is_some));
        assert!(gate.admit([192, 0, 2, 2].into()).is_none());
        drop(seats);
        assert!(gate.admit([192, 0, 2, 2].into()).is_some());
    }

    #[tokio::test]
    async fn it_waits_for_the_last_to_go() {
        let gate = Gate::new(3, 3);
        let seat = gate.admit([127, 0, 0, 1].into()).unwrap();
        let gone = gate.all_gone();
        tokio::pin!(gone);
        assert!(futures_util::FutureExt::now_or_never(gone.as_mut()).is_none());
        drop(seat);
        gone.await;
    }
}
