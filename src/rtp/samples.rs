//! The packets of real senders in `tests/data/rtp`, for the tests of this floor.
//!
//! **Invariant:** a sample that cannot be read to its last byte fails its test.

use super::header::RtpHeader;

/// One packet of a sample.
pub(super) struct Sample {
    /// Its RTP timestamp.
    pub(super) timestamp: u32,
    /// The marker bit: the last packet of a frame.
    pub(super) marker: bool,
    /// Its payload.
    pub(super) payload: Vec<u8>,
}

/// Every packet of a sample file.
pub(super) fn read(mut bytes: &[u8]) -> Vec<Sample> {
    let mut samples = Vec::new();
    while let [_, _, _, _, 0, 0, l0, l1, rest @ ..] = bytes {
        let (packet, rest) = rest.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
        let header = RtpHeader::parse(packet).expect("a sample holds RTP");
        samples.push(Sample {
            timestamp: header.timestamp,
            marker: header.marker,
            payload: packet[header.payload].to_vec(),
        });
        bytes = rest;
    }
    assert!(bytes.is_empty() && !samples.is_empty(), "a sample is whole");
    samples
}
