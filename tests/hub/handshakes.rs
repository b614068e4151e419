//! Handshakes between our DTLS and others: every kind of key and SRTP profile, both roles, and paths that lose, double and
//! reorder; by themselves, and through the hub.
//!
//! The other side is str0m's own DTLS (dimpl), which knows ECDSA alone, or ours with a certificate of another kind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use onair::dtls::provider;
use onair::egress::cipher::Profile;
use onair::hub::io::Command;
use onair::rtp::codec::Codec;
use onair::signal::ServerMessage;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::{X509, X509Name};
use std::sync::Arc;
use str0m::RtcConfig;
use str0m::config::DtlsVersion;
use str0m::crypto::dtls::{DtlsCert, DtlsInstance, DtlsOutput, DtlsProvider, SrtpProfile};
use str0m::media::Direction;

use crate::dtls;
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

/// A key of each kind that clients come with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Rsa(u32),
    Ecdsa(Nid),
}

const KINDS: [KeyKind; 4] =
    [KeyKind::Rsa(2048), KeyKind::Rsa(4096), KeyKind::Ecdsa(Nid::X9_62_PRIME256V1), KeyKind::Ecdsa(Nid::SECP384R1)];

fn key(kind: KeyKind) -> PKey<Private> {
    match kind {
        KeyKind::Rsa(bits) => PKey::from_rsa(Rsa::generate(bits).unwrap()),
        KeyKind::Ecdsa(curve) => PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()),
    }
    .unwrap()
}

/// A certificate with a key of that kind, signed by itself.
fn certificate(kind: KeyKind) -> DtlsCert {
    let key = key(kind);
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "client").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_not_before(&Asn1Time::from_str_x509("20200101000000Z").unwrap()).unwrap();
    // As of clients that make one for a day: nobody looks at it.
    certificate.set_not_after(&Asn1Time::from_str_x509("20200102000000Z").unwrap()).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    DtlsCert { certificate: certificate.build().to_der().unwrap(), private_key: key.private_key_to_pkcs8().unwrap() }
}

fn ours() -> &'static dyn DtlsProvider {
    provider::crypto().dtls_provider
}

fn dimpl() -> &'static dyn DtlsProvider {
    &dtls::Patient
}

/// One end of a path.
struct End {
    dtls: Box<dyn DtlsInstance>,
    due: Instant,
    is_connected: bool,
    certificate: Option<Vec<u8>>,
    keys: Option<(Vec<u8>, SrtpProfile)>,
    data: Vec<Vec<u8>>,
    is_ended: bool,
    error: Option<String>,
    sent: Vec<Vec<u8>>,
}

impl End {
    fn new(provider: &'static dyn DtlsProvider, cert: &DtlsCert, active: bool, now: Instant, mtu_bytes: usize) -> Self {
        let mut dtls = provider.new_dtls(cert, now, DtlsVersion::Dtls12, Some(mtu_bytes)).unwrap();
        dtls.set_active(active);
        dtls.handle_timeout(now).unwrap();
        if active {
            let _ = dtls.handle_packet(&[]);
        }
        Self {
            dtls,
            due: now,
            is_connected: false,
            certificate: None,
            keys: None,
            data: vec![],
            is_ended: false,
            error: None,
            sent: vec![],
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        if let Err(error) = self.dtls.handle_packet(datagram) {
            self.error = Some(error.to_string());
        }
    }

    /// Lets its time pass as str0m does, and takes out what it says.
    fn turn(&mut self, now: Instant) {
        for _ in 0..1_000 {
            if self.error.is_none()
                && self.due <= now
                && let Err(error) = self.dtls.handle_timeout(now)
            {
                self.error = Some(error.to_string());
            }
            let mut buffer = [0; 2_000];
            match self.dtls.poll_output(&mut buffer) {
                DtlsOutput::Packet(datagram) => self.sent.push(datagram.to_vec()),
                DtlsOutput::Connected => self.is_connected = true,
                DtlsOutput::PeerCert(certificate) => self.certificate = Some(certificate.to_vec()),
                DtlsOutput::KeyingMaterial(keys, profile) => self.keys = Some((keys.to_vec(), profile)),
                DtlsOutput::ApplicationData(data) => self.data.push(data.to_vec()),
                DtlsOutput::CloseNotify => self.is_ended = true,
                DtlsOutput::Timeout(at) => {
                    self.due = at;
                    if at > now || self.error.is_some() {
                        return;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("it never rests");
    }
}

/// What a path does to datagrams, 0 to 1 each.
#[derive(Debug, Clone, Copy, Default)]
struct Ills {
    loss: f64,
    duplicate: f64,
    reorder: f64,
}

/// Two ends and the path between them.
struct Pair {
    now: Instant,
    start: Instant,
    ends: [End; 2],
    under_way: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    count: u64,
    random: fastrand::Rng,
    ills: Ills,
    /// An end that nothing arrives at.
    deaf: Option<usize>,
    mtu_bytes: usize,
}

impl Pair {
    /// The first end asks, the second answers.
    fn new(seed: u64, sides: [(&'static dyn DtlsProvider, &DtlsCert); 2], mtu_bytes: usize, ills: Ills) -> Self {
        let now = Instant::now() + secs(60);
        let [client, server] = sides;
        Self {
            now,
            start: now,
            ends: [
                End::new(client.0, client.1, true, now, mtu_bytes),
                End::new(server.0, server.1, false, now, mtu_bytes),
            ],
            under_way: BTreeMap::new(),
            count: 0,
            random: fastrand::Rng::with_seed(seed),
            ills,
            deaf: None,
            mtu_bytes,
        }
    }

    fn send(&mut self, to: usize, datagram: &[u8]) {
        if self.random.f64() < self.ills.loss || self.deaf == Some(to) {
            return;
        }
        let times = if self.random.f64() < self.ills.duplicate { 2 } else { 1 };
        for _ in 0..times {
            let late = if self.random.f64() < self.ills.reorder { ms(15) } else { Duration::ZERO };
            self.count += 1;
            self.under_way.insert((self.now + ms(10) + late, self.count), (to, datagram.to_vec()));
        }
    }

    fn turn(&mut self) {
        for (index, to) in [(0, 1), (1, 0)] {
            self.ends[index].turn(self.now);
            for datagram in std::mem::take(&mut self.ends[index].sent) {
                assert!(datagram.len() <= self.mtu_bytes, "{} bytes are more than the MTU", datagram.len());
                self.send(to, &datagram);
            }
        }
    }

    /// Lets time pass until `happened`; tells whether it did within `limit`.
    fn run(&mut self, limit: Duration, happened: impl Fn(&[End; 2]) -> bool) -> bool {
        let until = self.now + limit;
        loop {
            self.turn();
            if happened(&self.ends) {
                return true;
            }
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let timers = self.ends.iter().filter(|end| end.error.is_none()).map(|end| end.due);
            let Some(at) = timers.chain(arrival).min().filter(|at| *at <= until) else {
                return false;
            };
            self.now = self.now.max(at);
            while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to, datagram) = entry.remove();
                self.ends[to].receive(&datagram);
                self.ends[to].turn(self.now);
            }
        }
    }

    fn connect(&mut self) {
        let done = self.run(secs(60), |ends| ends.iter().all(|end| end.is_connected));
        let errors: Vec<_> = self.ends.iter().map(|end| &end.error).collect();
        assert!(done, "not connected: {errors:?}");
        let [client, server] = &self.ends;
        assert_eq!(client.keys, server.keys);
        assert!(client.keys.is_some());
    }

    /// Data goes both ways, and the end is heard.
    fn talk_and_close(&mut self) {
        self.ills = Ills::default();
        for (index, to) in [(0, 1), (1, 0)] {
            let said = vec![index as u8; 900];
            assert_eq!(self.ends[index].dtls.send_application_data(&said).unwrap(), said.len());
            assert!(self.run(secs(1), |ends| ends[to].data.last() == Some(&said)));
        }
        self.ends[0].dtls.close().unwrap();
        assert!(self.run(secs(1), |ends| ends[1].is_ended), "close_notify arrives");
        self.ends[1].dtls.close().unwrap();
        assert!(self.run(secs(1), |ends| ends.iter().all(|end| end.dtls.is_closed())));
        assert!(self.ends[0].dtls.send_application_data(b"late").is_err());
    }
}

#[test]
fn every_kind_of_key_both_ways() {
    let own = ours().generate_certificate().unwrap();
    for kind in KINDS {
        let cert = certificate(kind);
        // With ours at both ends, in both roles; with dimpl where it knows the key.
        let mut others = vec![ours()];
        if kind == KeyKind::Ecdsa(Nid::X9_62_PRIME256V1) {
            others.push(dimpl());
        }
        for other in others {
            for (own_index, sides) in [(0, [(ours(), &own), (other, &cert)]), (1, [(other, &cert), (ours(), &own)])] {
                for mtu_bytes in [1200, 300] {
                    let mut pair = Pair::new(1, sides, mtu_bytes, Ills::default());
                    pair.connect();
                    assert!(pair.now - pair.start < ms(100), "nothing was sent again");
                    let seen = &pair.ends[own_index].certificate;
                    assert_eq!(seen.as_ref(), Some(&cert.certificate), "{kind:?}");
                    assert_eq!(pair.ends[1 - own_index].certificate.as_ref(), Some(&own.certificate));
                    let (_, profile) = pair.ends[0].keys.as_ref().unwrap();
                    assert_eq!(*profile, SrtpProfile::AEAD_AES_256_GCM);
                    pair.mtu_bytes = 1200;
                    pair.talk_and_close();
                }
            }
        }
    }
}

/// With a share of losses, doubles and reorderings: whoever is the other one, and whoever begins.
fn survives(ills: Ills, seeds: std::ops::Range<u64>, mtu_bytes: usize) {
    let own = ours().generate_certificate().unwrap();
    let rsa = certificate(KeyKind::Rsa(2048));
    let ecdsa = dimpl().generate_certificate().unwrap();
    for seed in seeds {
        for (other, cert) in [(ours(), &rsa), (dimpl(), &ecdsa)] {
            for sides in [[(ours(), &own), (other, cert)], [(other, cert), (ours(), &own)]] {
                let mut pair = Pair::new(seed, sides, mtu_bytes, ills);
                pair.connect();
                pair.talk_and_close();
            }
        }
    }
}

#[test]
fn a_tenth_is_lost() {
    survives(Ills { loss: 0.1, duplicate: 0.1, reorder: 0.1 }, 1..21, 1200);
}

#[test]
fn a_third_is_lost() {
    survives(Ills { loss: 0.3, duplicate: 0.1, reorder: 0.2 }, 1..11, 1200);
}

#[test]
fn all_comes_twice_and_out_of_order_in_fragments() {
    let ills = Ills { loss: 0.02, duplicate: 0.9, reorder: 0.5 };
    let own = ours().generate_certificate().unwrap();
    let rsa = certificate(KeyKind::Rsa(2048));
    for seed in 1..11 {
        for sides in [[(ours(), &own), (ours(), &rsa)], [(ours(), &rsa), (ours(), &own)]] {
            let mut pair = Pair::new(seed, sides, 300, ills);
            pair.connect();
            pair.mtu_bytes = 1200;
            pair.talk_and_close();
        }
    }
}

#[test]
fn a_flight_that_is_lost_leaves_again_after_a_second_of_the_time_that_is_told() {
    let own = ours().generate_certificate().unwrap();
    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
    pair.turn();
    pair.under_way.clear();
    pair.connect();
    let took = pair.now - pair.start;
    assert!(took >= secs(1) && took < ms(1_100), "{took:?}");
}

#[test]
fn a_last_flight_that_is_lost_is_asked_for() {
    let own = ours().generate_certificate().unwrap();
    let ecdsa = dimpl().generate_certificate().unwrap();
    for sides in
        [[(ours(), &own), (ours(), &own)], [(ours(), &own), (dimpl(), &ecdsa)], [(dimpl(), &ecdsa), (ours(), &own)]]
    {
        let mut pair = Pair::new(1, sides, 1200, Ills::default());
        assert!(pair.run(secs(1), |ends| ends[1].is_connected));
        pair.under_way.clear();
        pair.deaf = Some(0);
        pair.run(secs(5), |_| false);
        assert!(!pair.ends[0].is_connected);
        pair.deaf = None;
        pair.connect();
        pair.talk_and_close();
    }
}

/// Epoch 1's records in a datagram: sequence number, and the part of the nonce that stands before the ciphertext.
fn sealed(datagram: &[u8]) -> Vec<([u8; 6], [u8; 8])> {
    let (mut rest, mut found) = (datagram, vec![]);
    while rest.len() > 13 {
        let len_bytes = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        if rest[4] == 1 {
            found.push((rest[5..11].try_into().unwrap(), rest[13..21].try_into().unwrap()));
        }
        rest = &rest[len_bytes..];
    }
    found
}

#[test]
fn an_alert_after_a_flight_that_left_again_takes_neither_its_number_nor_its_nonce() {
    let own = ours().generate_certificate().unwrap();
    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
    // The client's last flight leaves, and again: nothing of what it is answered arrives.
    let mut all = vec![];
    pair.run(secs(1), |ends| ends[1].is_connected);
    pair.deaf = Some(0);
    pair.under_way.retain(|_, (to, _)| *to == 1);
    for _ in 0..40 {
        pair.now += ms(200);
        pair.ends[0].turn(pair.now);
        all.extend(std::mem::take(&mut pair.ends[0].sent));
    }
    let repeated = all.iter().flat_map(|datagram| sealed(datagram)).count();
    assert!(repeated >= 2, "{repeated}");
    // A message of the server's that has no place there, in the clear: anyone on the path can make one.
    for number in 0..12 {
        let mut forged = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 1, 0, number, 0, 12];
        forged.extend([14, 0, 0, 0, 0, number, 0, 0, 0, 0, 0, 0]);
        pair.ends[0].receive(&forged);
        pair.ends[0].turn(pair.now);
    }
    let alerts = std::mem::take(&mut pair.ends[0].sent);
    let told = alerts.iter().flat_map(|datagram| sealed(datagram)).count();
    assert!(told > 0 && pair.ends[0].error.is_some(), "it has failed, and says so");
    all.extend(alerts);
    let records: Vec<_> = all.iter().flat_map(|datagram| sealed(datagram)).collect();
    let numbers: std::collections::BTreeSet<_> = records.iter().map(|(number, _)| number).collect();
    let nonces: std::collections::BTreeSet<_> = records.iter().map(|(_, nonce)| nonce).collect();
    assert_eq!((numbers.len(), nonces.len()), (records.len(), records.len()), "{records:?}");
    // The server takes the alert for what it is.
    for datagram in &all {
        pair.ends[1].receive(datagram);
    }
    pair.ends[1].turn(pair.now);
    assert!(pair.ends[1].error.is_some() || pair.ends[1].is_ended);
}

#[test]
fn a_key_that_is_too_short_is_refused_and_told() {
    let own = ours().generate_certificate().unwrap();
    let weak = certificate(KeyKind::Rsa(1024));
    // OpenSSL refuses to work with such a key at our level of security: it is a client of another make that has one.
    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
    let mut client = Client::new(Some(&weak), "SRTP_AEAD_AES_256_GCM");
    assert_eq!(client.shake(&mut pair), Err("certificate"));
    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
    let mut client = Client::new(None, "SRTP_AEAD_AES_256_GCM");
    assert_eq!(client.shake(&mut pair), Err("handshake"));
}

#[test]
fn each_profile_alone_and_the_best_of_several() {
    let (gcm_256, gcm_128, sha1) = ("SRTP_AEAD_AES_256_GCM", "SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80");
    let all = format!("{sha1}:{gcm_128}:{gcm_256}");
    let some = format!("{sha1}:{gcm_128}");
    let expected = [
        (gcm_256, SrtpProfile::AEAD_AES_256_GCM),
        (gcm_128, SrtpProfile::AEAD_AES_128_GCM),
        (sha1, SrtpProfile::AES128_CM_SHA1_80),
        (&all, SrtpProfile::AEAD_AES_256_GCM),
        (&some, SrtpProfile::AEAD_AES_128_GCM),
    ];
    let own = ours().generate_certificate().unwrap();
    let rsa = certificate(KeyKind::Rsa(2048));
    for (offered, profile) in expected {
        let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
        Client::new(Some(&rsa), offered).shake(&mut pair).unwrap();
        let (material, chosen) = pair.ends[1].keys.as_ref().unwrap();
        assert_eq!((*chosen, material.len()), (profile, profile.keying_material_len()), "{offered}");
    }
    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
    let _ = Client::new(Some(&rsa), "SRTP_AES128_CM_SHA1_32").shake(&mut pair);
    assert!(pair.ends[1].keys.is_none() && !pair.ends[1].is_connected, "media could not be secured");
    assert!(pair.ends[1].error.is_some());
}

#[test]
fn a_first_message_that_makes_no_sense_is_forgotten_and_one_without_a_common_cipher_is_answered() {
    let own = ours().generate_certificate().unwrap();
    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
    pair.turn();
    let hello = pair.under_way.values().next().unwrap().1.clone();
    for cut in [60, 90, 120, 140] {
        // A shorter message, whose parts then do not fit.
        let mut forged = hello[..cut].to_vec();
        forged[11..13].copy_from_slice(&(cut as u16 - 13).to_be_bytes());
        forged[14..17].copy_from_slice(&(cut as u32 - 25).to_be_bytes()[1..]);
        forged[22..25].copy_from_slice(&(cut as u32 - 25).to_be_bytes()[1..]);
        pair.ends[1].receive(&forged);
        pair.ends[1].turn(pair.now);
        assert!(pair.ends[1].sent.is_empty() && pair.ends[1].error.is_none());
    }
    pair.connect();
    assert!(pair.now - pair.start < ms(100));

    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
    pair.turn();
    let mut hello = pair.under_way.values().next().unwrap().1.clone();
    let suites = hello.windows(2).position(|pair| pair == [0xc0, 0x2b]).unwrap();
    for suite in hello[suites..suites + 12].chunks_exact_mut(2) {
        suite.copy_from_slice(&[0xc0, 0x09]);
    }
    pair.ends[1].receive(&hello);
    pair.ends[1].turn(pair.now);
    let alert = pair.ends[1].sent.first().expect("an alert");
    assert_eq!((alert[0], &alert[13..]), (21, &[2, 40][..]));
    assert!(pair.ends[1].error.is_some());
}

/// A client of OpenSSL as it comes, without anything of ours, in the place of a pair's first end.
struct Client(SslStream<Socket>);

#[derive(Debug, Default)]
struct Socket {
    incoming: Vec<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl std::io::Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let datagram = self.incoming.remove(0);
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl std::io::Write for Socket {
    fn write(&mut self, datagram: &[u8]) -> std::io::Result<usize> {
        self.outgoing.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Client {
    fn new(cert: Option<&DtlsCert>, profiles: &str) -> Self {
        let mut context = SslContextBuilder::new(SslMethod::dtls()).unwrap();
        context.set_security_level(0);
        context.set_max_proto_version(Some(SslVersion::DTLS1_2)).unwrap();
        context.set_verify(SslVerifyMode::NONE);
        context.set_tlsext_use_srtp(profiles).unwrap();
        if let Some(cert) = cert {
            context.set_certificate(&X509::from_der(&cert.certificate).unwrap()).unwrap();
            context.set_private_key(&PKey::private_key_from_der(&cert.private_key).unwrap()).unwrap();
        }
        let context: SslContext = context.build();
        let mut ssl = openssl::ssl::Ssl::new(&context).unwrap();
        ssl.set_connect_state();
        Self(SslStream::new(ssl, Socket::default()).unwrap())
    }

    /// Shakes hands with the second end of `pair`; the error is a word of the alert that came.
    fn shake(&mut self, pair: &mut Pair) -> Result<(), &'static str> {
        let server = &mut pair.ends[1];
        let mut told = None;
        for _ in 0..10 {
            if let Err(error) = self.0.do_handshake() {
                let text = error.to_string();
                told = ["certificate", "handshake"].into_iter().find(|word| text.contains(word)).or(told);
            }
            for datagram in std::mem::take(&mut self.0.get_mut().outgoing) {
                server.receive(&datagram);
            }
            server.turn(pair.now);
            self.0.get_mut().incoming.append(&mut server.sent);
            if server.is_connected && self.0.ssl().is_init_finished() {
                return Ok(());
            }
        }
        assert!(server.error.is_some(), "it says that it cannot go on");
        Err(told.unwrap_or("nothing"))
    }
}

#[test]
fn an_end_that_nobody_answers_gives_up() {
    let own = ours().generate_certificate().unwrap();
    let ills = Ills { loss: 1.0, ..Ills::default() };
    let mut pair = Pair::new(1, [(ours(), &own), (ours(), &own)], 1200, ills);
    assert!(pair.run(secs(60), |ends| ends[0].error.is_some()));
    assert_eq!(pair.now - pair.start, secs(40));
}

#[test]
fn junk_ends_nothing() {
    let own = ours().generate_certificate().unwrap();
    with_seeds(|seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new(seed, [(ours(), &own), (ours(), &own)], 1200, Ills::default());
        let mut encrypted = 0;
        for _ in 0..200 {
            let real = pair.under_way.values().next().map(|(_, datagram)| datagram.clone());
            let mut junk = match real.filter(|_| random.bool()) {
                Some(mut real) => {
                    let at = random.usize(0..real.len());
                    real[at] ^= random.u8(1..=255);
                    real.truncate(random.usize(0..=real.len()));
                    real
                }
                None => (0..random.usize(0..60_000)).map(|_| random.u8(..)).collect(),
            };
            // Like a record. Of a message or an alert in the clear nobody can tell whose it is: those may end a handshake.
            if let Some(header) = junk.get_mut(..13) {
                let epoch = if encrypted < 20 { random.u16(0..3) } else { 0 };
                encrypted += usize::from(epoch > 0);
                let kind = if epoch > 0 { random.u8(20..24) } else { random.u8(23..64) };
                header[..3].copy_from_slice(&[kind, 0xfe, 0xfd]);
                header[3..5].copy_from_slice(&epoch.to_be_bytes());
                header[11..13].copy_from_slice(&random.u16(0..1_500).to_be_bytes());
            }
            pair.ends[random.usize(0..2)].receive(&junk);
            pair.turn();
            if random.u8(0..10) == 0 {
                pair.run(ms(5), |_| false);
            }
        }
        pair.connect();
        // And once more, now that there are keys.
        for _ in 0..200 {
            let junk = [&[random.u8(20..24), 0xfe, 0xfd, 0, 1][..], &[0; 6], &[0, 90], &[random.u8(..); 90]].concat();
            pair.ends[random.usize(0..2)].receive(&junk);
            pair.turn();
        }
        pair.talk_and_close();
    });
}

/// A client of a new session with a certificate of that kind.
fn client_with(sim: &mut Simulation, kind: KeyKind) -> ClientId {
    let config = RtcConfig::new().set_crypto_provider(Arc::new(provider::crypto())).set_dtls_cert(certificate(kind));
    let address = sim.next_address();
    let session = sim.open();
    sim.client_with(config, session, address, &[Codec::Vp8])
}

#[test]
fn whatever_key_they_have_they_publish_and_watch() {
    for kind in KINDS {
        let mut sim = Simulation::new(1);
        let publisher = client_with(&mut sim, kind);
        sim.register(publisher, "r/u", Program { channels: vec!["health-check"], ..Program::of(Codec::Vp8) });
        let viewer = client_with(&mut sim, kind);
        sim.subscribe_with(viewer, "r/u");
        sim.run_until(secs(5), "it is watched", |sim| {
            sim[viewer].received.len() > 100 && sim[publisher].channels.len() == 1
        });
        sim[publisher].say("health-check", b"ping-1");
        sim.run_until(secs(1), "the channel answers", |sim| {
            sim[publisher].messages.iter().any(|(_, _, said)| said == b"pong-1")
        });
    }
}

#[test]
fn who_has_another_certificate_than_it_said_gets_in_nowhere() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = client_with(&mut sim, KeyKind::Rsa(2048));
        let offer = sim[publisher].offer([true, true], Direction::SendOnly, &[]);
        let (before, after) = offer.split_once("a=fingerprint:sha-256 ").expect("a fingerprint");
        let other = if after.starts_with("00") { "11" } else { "00" };
        let offer = format!("{before}a=fingerprint:sha-256 {other}{}", &after[2..]);
        let session = sim[publisher].session;
        let reply = sim.ask(session, Command::Register { broadcast: "r/u".parse().unwrap(), offer });
        assert!(matches!(reply, ServerMessage::Registered { .. }), "{reply:?}");
        sim.run_until(secs(12), "it is sent away", |sim| sim.log(session).ended == 1);
        assert!(sim.hub.snapshot(sim.now).broadcasts.is_empty());
        assert_eq!(sim.hub.snapshot(sim.now).metrics.panics, 0);
    });
}

#[test]
fn a_viewer_of_each_profile_is_tapped() {
    for profile in [Profile::AeadAes256Gcm, Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80] {
        let mut sim = Simulation::new(1);
        sim.publish("r/u", Program::of(Codec::Vp8));
        let (viewer, keys) = dtls::client_of(&mut sim, profile, &[Codec::Vp8]);
        sim.subscribe_with(viewer, "r/u");
        sim.run_until(secs(5), "it watches", |sim| sim[viewer].received.len() > 100);
        assert_eq!(keys.profile(), Some(profile));
    }
}

#[test]
fn a_tenth_of_all_dtls_is_lost_on_the_way_to_the_hub_and_back() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        sim.network.filter = Some(Box::new(move |datagram| !datagram.is_dtls() || random.f64() >= 0.1));
        let publisher = client_with(&mut sim, KeyKind::Rsa(2048));
        sim.register(publisher, "r/u", Program::of(Codec::Vp8));
        sim.run_until(secs(10), "it is live", |sim| !sim.hub.snapshot(sim.now).broadcasts.is_empty());
        let (player, _) = sim.play("r/u", &[Codec::Vp8]);
        sim.run_until(secs(10), "it is watched", |sim| sim[player].received.len() > 100);
    });
}
