//! DTLS records as they lie in datagrams, and the gate through which they come in.
//!
//! **Invariant:** what passes the gate is whole records of the kinds that belong to the moment, so that cleartext of a
//! stranger neither ends a handshake nor makes OpenSSL hold more than the caps here allow.

/// What stands before a record's body: kind, version, epoch, sequence number and length (RFC 6347 §4.1), in bytes.
pub const HEADER_BYTES: usize = 13;

/// What stands before a fragment of a handshake message (RFC 6347 §4.2.2), in bytes.
const HANDSHAKE_HEADER_BYTES: usize = 12;

/// The longest handshake message that is taken. Certificates make the longest; those of RSA have one to four thousand.
const HANDSHAKE_MESSAGE_MAX_BYTES: u32 = 16 * 1024;

/// How many encrypted records are taken before the handshake is done, each once. OpenSSL keeps those for which it has no keys
/// yet, 17 KiB for each; a peer on a bad path sends its `Finished` again and again, but hardly so often in our time.
const EARLY_RECORDS_MAX: usize = 32;

/// What a record holds (RFC 5246 §6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From here on it is encrypted.
    ChangeCipherSpec,
    /// A warning, a fatal error, or the end.
    Alert,
    /// A fragment of a handshake message.
    Handshake,
    /// What is carried.
    Data,
}

impl Kind {
    /// As it is written.
    pub fn number(self) -> u8 {
        match self {
            Self::ChangeCipherSpec => 20,
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }
}

/// A place in a handshake: the message's number and the offset of a fragment in it, in bytes.
pub type Place = (u16, u32);

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// What it holds.
    pub kind: Kind,
    /// 0 before keys are in force.
    pub epoch: u16,
    /// Header and body.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `datagram`; returns what follows it, too.
    ///
    /// `None` where there is none, or less than its length says.
    fn read(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [kind, 0xfe, _, epoch_high, epoch_low, _, _, _, _, _, _, high, low, ..] = *datagram else {
            return None;
        };
        let kind = match kind {
            20 => Kind::ChangeCipherSpec,
            21 => Kind::Alert,
            22 => Kind::Handshake,
            23 => Kind::Data,
            _ => return None,
        };
        let len_bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
        let (bytes, rest) = datagram.split_at_checked(len_bytes)?;
        Some((Self { kind, epoch: u16::from_be_bytes([epoch_high, epoch_low]), bytes }, rest))
    }

    /// Epoch and sequence number.
    pub fn number(&self) -> [u8; 8] {
        self.bytes.get(3..11).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
    }

    /// Where in the handshake it is; `None` for what is encrypted or is no well-formed handshake.
    pub fn place(&self) -> Option<Place> {
        let fragment = self.fragment()?;
        Some((fragment.message, fragment.offset_bytes))
    }

    fn fragment(&self) -> Option<Fragment> {
        if self.kind != Kind::Handshake || self.epoch != 0 {
            return None;
        }
        let body = self.bytes.get(HEADER_BYTES..)?;
        let [_, m2, m1, m0, s1, s0, o2, o1, o0, f2, f1, f0, ..] = *body else {
            return None;
        };
        let message_bytes = u32::from_be_bytes([0, m2, m1, m0]);
        let offset_bytes = u32::from_be_bytes([0, o2, o1, o0]);
        let len_bytes = u32::from_be_bytes([0, f2, f1, f0]);
        let held = body.len() - HANDSHAKE_HEADER_BYTES;
        let fits = len_bytes as usize <= held && offset_bytes + len_bytes <= message_bytes;
        fits.then_some(Fragment { message: u16::from_be_bytes([s1, s0]), message_bytes, offset_bytes })
    }
}

/// The header of a fragment of a handshake message.
struct Fragment {
    message: u16,
    message_bytes: u32,
    offset_bytes: u32,
}

/// The records of a datagram, up to the first that is none.
pub fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (record, after) = Record::read(rest)?;
        rest = after;
        Some(record)
    })
}

/// What a datagram was let in with.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Its records that may come in, one after the other; empty for none.
    pub bytes: Vec<u8>,
    /// The furthest message of the handshake in it.
    pub message: Option<u16>,
}

/// Lets the records of a handshake in.
#[derive(Debug, Default)]
pub struct Gate {
    /// Epoch and sequence number of each encrypted record that came before the handshake was done.
    early: Vec<[u8; 8]>,
}

impl Gate {
    /// Lets in what may come in of a datagram before the handshake is done.
    pub fn admit(&mut self, datagram: &[u8]) -> Admitted {
        let mut admitted = Admitted::default();
        for record in records(datagram) {
            if !self.lets_in(&record) {
                continue;
            }
            admitted.bytes.extend_from_slice(record.bytes);
            admitted.message = admitted.message.max(record.place().map(|(message, _)| message));
        }
        admitted
    }

    fn lets_in(&mut self, record: &Record<'_>) -> bool {
        if record.epoch != 0 {
            let number = record.number();
            let is_new = self.early.len() < EARLY_RECORDS_MAX && !self.early.contains(&number);
            if is_new {
                self.early.push(number);
            }
            return is_new;
        }
        match record.kind {
            Kind::Handshake => {
                record.fragment().is_some_and(|fragment| fragment.message_bytes <= HANDSHAKE_MESSAGE_MAX_BYTES)
            }
            Kind::ChangeCipherSpec | Kind::Alert => true,
            Kind::Data => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9];
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn fragment(message: u8, message_bytes: u16, offset_bytes: u8, held: &[u8]) -> Vec<u8> {
        let [high, low] = message_bytes.to_be_bytes();
        let mut body = vec![11, 0, high, low, 0, message, 0, 0, offset_bytes, 0, 0, held.len() as u8];
        body.extend_from_slice(held);
        record(22, 0, &body)
    }

    #[test]
    fn records_are_read_up_to_the_first_that_is_none() {
        let datagram = [fragment(3, 9, 4, b"five!"), record(23, 1, b"data"), vec![22, 0xfe, 0xfd, 0]].concat();
        let found: Vec<_> = records(&datagram).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].kind, found[0].epoch, found[0].place()), (Kind::Handshake, 0, Some((3, 4))));
        assert_eq!((found[1].kind, found[1].epoch, found[1].place()), (Kind::Data, 1, None));
        assert_eq!(&found[1].bytes[HEADER_BYTES..], b"data");
        for cut in 1..13 + 12 + 5 {
            assert_eq!(records(&datagram[..cut]).count(), 0, "{cut} bytes are no record");
        }
        assert_eq!(records(&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(), 0, "that is TLS");
        assert_eq!(records(&record(24, 0, b"")).count(), 0, "no such kind");
    }

    #[test]
    fn a_fragment_lies_within_its_message_and_its_record() {
        let beyond = fragment(0, 4, 2, b"abc");
        assert!(records(&beyond).all(|record| record.place().is_none()));
        let mut short = fragment(0, 9, 0, b"abc");
        short[HEADER_BYTES + 11] = 4;
        assert!(records(&short).all(|record| record.place().is_none()));
        assert!(records(&record(22, 0, &[1; 11])).all(|record| record.place().is_none()));
    }

    #[test]
    fn the_gate_takes_what_belongs_to_a_handshake() {
        let mut gate = Gate::default();
        let hello = fragment(0, 3, 0, b"abc");
        let change = record(20, 0, &[1]);
        let datagram = [hello.clone(), record(23, 0, b"in the clear"), change.clone(), fragment(1, 0x4001, 0, b"")];
        let admitted = gate.admit(&datagram.concat());
        assert_eq!(admitted.bytes, [hello, change].concat());
        assert_eq!(admitted.message, Some(0));
        assert_eq!(gate.admit(b"").bytes, b"");
    }

    #[test]
    fn encrypted_records_before_the_keys_are_few() {
        let mut gate = Gate::default();
        let mut early = record(22, 1, &[0; 40]);
        for number in 0..EARLY_RECORDS_MAX {
            early[10] = number as u8;
            assert_eq!(gate.admit(&early).bytes, early);
            assert_eq!(gate.admit(&early).bytes, b"", "each once");
        }
        early[10] += 1;
        assert_eq!(gate.admit(&early).bytes, b"");
    }
}
