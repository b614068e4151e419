//! The bare cipher: what it costs to seal one packet of video, and nothing else.
//!
//! **Invariant:** it seals in place, with a nonce of its own for each packet, as SRTP does (RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

use super::floor::thread_cpu;

const BATCHES: usize = 11;
const SEALS: u32 = 10_000;

/// Header and extensions, which are authenticated only.
const HEADER: [u8; 24] = [0x90; 24];

/// CPU time to seal `len_bytes` with AES-128-GCM and with AES-256-GCM, in microseconds: each the median of a few batches.
pub fn seal_us(len_bytes: usize) -> [f64; 2] {
    [&AES_128_GCM, &AES_256_GCM].map(|algorithm| {
        let mut batches: Vec<f64> = (0..BATCHES).map(|_| batch_us(algorithm, len_bytes)).collect();
        batches.sort_by(f64::total_cmp);
        batches[BATCHES / 2]
    })
}

fn batch_us(algorithm: &'static Algorithm, len_bytes: usize) -> f64 {
    let key = UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).expect("a key of that length");
    let key = LessSafeKey::new(key);
    let mut packet = vec![0x55; len_bytes];
    let before = thread_cpu();
    for index in 0..SEALS {
        let mut nonce = [9; 12];
        nonce[8..].copy_from_slice(&index.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(HEADER), &mut packet).expect("it is sealed");
        let _tag = std::hint::black_box(sealed);
    }
    (thread_cpu() - before).as_secs_f64() * 1e6 / f64::from(SEALS)
}
