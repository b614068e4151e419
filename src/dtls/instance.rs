//! The DTLS of one peer: OpenSSL between datagrams that came and datagrams that go.
//!
//! **Invariant:** whatever comes, the worst is an error of this peer: what is malformed is dropped, and a handshake that
//! fails is told to the other side first.

use std::collections::VecDeque;
use std::time::Instant;

use openssl::error::ErrorStack;
use openssl::srtp::SrtpProfileId;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslStream};
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, KeyingMaterial, ProtocolVersion, SrtpProfile};

use super::flight::Flights;
use super::protection::Protection;
use super::record::{Admitted, Gate, Kind, records};
use super::timer::{Due, Timer};
use super::wire::Wire;
use crate::egress::keytap::KeyTap;

/// What the keys of SRTP are exported under (RFC 5764 §4.2).
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";

/// The most pieces of data that wait to be taken; more are lost, as they might be on their way. str0m takes them after each
/// datagram.
const DATA_MAX: usize = 64;

/// The message by which a peer says that its handshake is done (RFC 5246 §7.4).
const FINISHED: u8 = 20;

/// The levels of alerts, and the one that closes (RFC 5246 §7.2).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;

/// How many first messages that make no sense are forgotten.
const RESTARTS_MAX: usize = 8;

/// Alerts by which a peer is told that there is nothing in common: handshake_failure, protocol_version,
/// insufficient_security. Others say that a message makes no sense.
const REFUSALS: [u8; 3] = [40, 70, 71];

/// How far a peer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has said yet who asks and who answers.
    Idle,
    /// The handshake is going on.
    Handshake,
    /// Data flows.
    Connected,
    /// We have closed it.
    Closed,
    /// It cannot go on.
    Failed,
}

/// A DTLS peer.
pub struct Instance {
    context: SslContext,
    mtu_bytes: usize,
    tap: Option<KeyTap>,
    /// While the handshake goes on.
    stream: Option<SslStream<Wire>>,
    /// As soon as there are keys.
    protection: Option<Protection>,
    state: State,
    is_active: bool,
    gate: Gate,
    flights: Flights,
    timer: Timer,
    /// Nothing of the peer's has made sense yet.
    is_unheard: bool,
    restarts: usize,
    /// The furthest message of the peer that had come when our latest flight left.
    answered: Option<u16>,
    heard: Option<u16>,
    /// The peer's certificate, which str0m has not seen yet.
    certificate: Option<Vec<u8>>,
    /// The keys, which str0m has not got yet.
    keys: Option<(KeyingMaterial, SrtpProfile)>,
    /// That it is connected is yet to be told.
    is_news: bool,
    /// Our first message has left, where it is we who begin.
    has_asked: bool,
    /// That it has failed was told.
    is_told: bool,
    /// What the peer has sent.
    data: VecDeque<Vec<u8>>,
    /// The peer has closed it, and that is yet to be told.
    is_ended: bool,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("state", &self.state).field("active", &self.is_active).finish_non_exhaustive()
    }
}

impl Instance {
    /// A peer of whom nothing is known yet.
    pub fn new(context: SslContext, mtu_bytes: usize, tap: Option<KeyTap>, now: Instant) -> Self {
        Self {
            context,
            mtu_bytes,
            tap,
            stream: None,
            protection: None,
            state: State::Idle,
            is_active: false,
            gate: Gate::default(),
            flights: Flights::default(),
            timer: Timer::new(now),
            is_unheard: true,
            restarts: 0,
            answered: None,
            heard: None,
            certificate: None,
            keys: None,
            is_news: false,
            has_asked: false,
            is_told: false,
            data: VecDeque::new(),
            is_ended: false,
        }
    }

    fn begin(&mut self) -> Result<(), ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        ssl.set_mtu(u32::try_from(self.mtu_bytes).unwrap_or(u32::MAX))?;
        if self.is_active {
            ssl.set_connect_state();
        } else {
            ssl.set_accept_state();
        }
        self.stream = Some(SslStream::new(ssl, Wire::default())?);
        self.state = State::Handshake;
        Ok(())
    }

    /// Goes on with the handshake as far as it goes.
    fn shake(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let shaken = stream.do_handshake();
        let written = stream.get_mut().take_written();
        let is_refused = shaken.as_ref().is_err_and(|error| error.code() != ErrorCode::WANT_READ);
        if is_refused && self.is_unheard && self.restarts < RESTARTS_MAX && is_malformed(&written) {
            return self.restart();
        }
        if self.flights.take(written) {
            (self.answered, self.is_unheard) = (self.heard, false);
            self.timer.fly();
        }
        self.key();
        self.flights.release(self.protection.as_mut());
        match shaken {
            Ok(()) => self.connect(),
            Err(error) if error.code() == ErrorCode::WANT_READ => {}
            Err(error) => self.fail(&error),
        }
    }

    /// Forgets a first message that made no sense: it may have been forged, and the true one is yet to come.
    fn restart(&mut self) {
        self.restarts += 1;
        (self.gate, self.heard) = (Gate::default(), None);
        if let Err(error) = self.begin() {
            self.fail(&error);
        }
    }

    /// Sends the latest flight again.
    fn repeat(&mut self) {
        self.flights.repeat(self.protection.as_mut());
    }

    /// Takes the keys, as soon as our `Finished` has left under them: from then on, OpenSSL's numbers are not used any more.
    fn key(&mut self) {
        if let (None, Some(stream), Some(finished)) = (&self.protection, &self.stream, self.flights.finished()) {
            self.protection = Protection::new(stream.ssl(), self.is_active, &finished);
        }
    }

    fn connect(&mut self) {
        if self.protection.is_none() {
            return self.fail(&"no keys");
        }
        let Some(stream) = &self.stream else {
            return;
        };
        let ssl = stream.ssl();
        let profile = ssl.selected_srtp_profile().and_then(|profile| match profile.id() {
            SrtpProfileId::SRTP_AEAD_AES_256_GCM => Some(SrtpProfile::AEAD_AES_256_GCM),
            SrtpProfileId::SRTP_AEAD_AES_128_GCM => Some(SrtpProfile::AEAD_AES_128_GCM),
            SrtpProfileId::SRTP_AES128_CM_SHA1_80 => Some(SrtpProfile::AES128_CM_SHA1_80),
            _ => None,
        });
        let Some(profile) = profile else {
            return self.fail(&"no SRTP profile in common");
        };
        let mut material = vec![0; profile.keying_material_len()];
        if let Err(error) = ssl.export_keying_material(&mut material, EXPORTER, None) {
            return self.fail(&error);
        }
        let Some(certificate) = ssl.peer_certificate().and_then(|certificate| certificate.to_der().ok()) else {
            return self.fail(&"no certificate");
        };
        self.certificate = Some(certificate);
        let material = KeyingMaterial::new(&material);
        self.keys = Some(match self.tap.take() {
            Some(tap) => tap.fill(profile, material, self.is_active),
            None => (material, profile),
        });
        if self.is_active {
            // The other side's was the last word. Ours, where we answer, it may have to ask for.
            self.flights.settle();
        }
        self.timer.end();
        (self.stream, self.gate) = (None, Gate::default());
        self.state = State::Connected;
        self.is_news = true;
    }

    /// Ends it; OpenSSL has written the alert already.
    fn fail(&mut self, error: &dyn std::fmt::Display) {
        tracing::debug!(%error, state = ?self.state, "DTLS has failed");
        self.state = State::Failed;
        self.stream = None;
        self.flights.settle();
        self.timer.end();
    }

    /// Fails before anything was told to str0m.
    fn drop_out(&mut self, error: &dyn std::fmt::Display) {
        (self.keys, self.is_news) = (None, false);
        self.fail(error);
    }

    /// Opens what came under the keys.
    fn open(&mut self, datagram: &[u8]) {
        for record in records(datagram) {
            let Some(plaintext) = self.protection.as_mut().and_then(|protection| protection.open(&record)) else {
                continue;
            };
            match (record.kind, plaintext.as_slice()) {
                (Kind::Data, [_, ..]) if self.data.len() < DATA_MAX => self.data.push_back(plaintext),
                (Kind::Alert, [_, CLOSE_NOTIFY]) => self.is_ended = true,
                (Kind::Alert, [FATAL, what]) => self.fail(&format_args!("the peer has sent the alert {what}")),
                // It has missed our last flight. Other messages would begin a handshake anew, which nobody is to do.
                (Kind::Handshake, [FINISHED, ..]) if !self.is_active => self.timer.ask(),
                _ => {}
            }
        }
    }

    /// Seals and sends.
    fn seal(&mut self, kind: Kind, plaintext: &[u8]) -> Option<()> {
        let record = self.protection.as_mut()?.seal(kind, plaintext)?;
        self.flights.pass(record);
        Some(())
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        if self.state == State::Idle {
            self.is_active = active;
            if let Err(error) = self.begin() {
                self.fail(&error);
            }
        }
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        if self.state == State::Connected {
            self.open(packet);
        }
        let Some(stream) = self.stream.as_mut().filter(|_| self.state == State::Handshake) else {
            return Ok(());
        };
        let Admitted { bytes, message } = self.gate.admit(packet);
        if bytes.is_empty() {
            return Ok(());
        }
        stream.get_mut().incoming = Some(bytes);
        self.heard = self.heard.max(message);
        if message.is_some() && message <= self.answered {
            self.timer.ask();
        }
        self.shake();
        if self.state == State::Connected {
            // What followed the last message in the same datagram; OpenSSL has read the message itself.
            let data = records(packet).filter(|record| record.kind != Kind::Handshake);
            self.open(&data.flat_map(|record| record.bytes.iter().copied()).collect::<Vec<_>>());
        }
        Ok(())
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        // First of all, so that a peer who is another one gets no word that the handshake is done, and no keys of ours.
        if let Some(certificate) = self.certificate.take() {
            if certificate.len() <= buf.len() {
                return DtlsOutput::PeerCert(lent(buf, &certificate).unwrap_or_default());
            }
            self.drop_out(&"the certificate is too long");
        }
        if let Some(datagram) = self.flights.poll() {
            return packet(buf, &datagram);
        }
        if let Some((material, profile)) = self.keys.take() {
            return DtlsOutput::KeyingMaterial(material, profile);
        }
        if std::mem::take(&mut self.is_news) {
            return DtlsOutput::Connected;
        }
        while let Some(data) = self.data.pop_front() {
            // Nothing that long is carried here.
            if data.len() <= buf.len() {
                return DtlsOutput::ApplicationData(lent(buf, &data).unwrap_or_default());
            }
        }
        if std::mem::take(&mut self.is_ended) {
            return DtlsOutput::CloseNotify;
        }
        if self.state == State::Failed && !self.is_told {
            return DtlsOutput::Timeout(self.timer.now());
        }
        DtlsOutput::Timeout(self.timer.at())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        match self.timer.tell(now) {
            Due::Nothing => {}
            Due::Repeat => self.repeat(),
            Due::GiveUp => self.fail(&"nobody answered in time"),
        }
        match self.state {
            State::Handshake if self.is_active && !self.has_asked => {
                self.has_asked = true;
                self.shake();
            }
            State::Failed if !self.is_told => {
                self.is_told = true;
                return Err(DtlsImplError::ConnectionClosed);
            }
            _ => {}
        }
        Ok(())
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        match self.state {
            State::Connected if data.is_empty() => Ok(0),
            State::Connected => self.seal(Kind::Data, data).map(|()| data.len()).ok_or(DtlsImplError::ConnectionClosed),
            State::Idle | State::Handshake => Ok(0),
            State::Closed | State::Failed => Err(DtlsImplError::ConnectionClosed),
        }
    }

    fn is_active(&self) -> bool {
        self.is_active
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        (self.state == State::Connected).then_some(ProtocolVersion::DTLS1_2)
    }

    fn is_closing(&self) -> bool {
        self.state == State::Closed && !self.flights.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.state == State::Closed && self.flights.is_empty()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        if self.state == State::Connected {
            // Without a number left there is nothing to say.
            let _ = self.seal(Kind::Alert, &[WARNING, CLOSE_NOTIFY]);
        }
        self.stream = None;
        self.state = State::Closed;
        self.timer.end();
        (self.certificate, self.keys, self.is_news) = (None, None, false);
        Ok(())
    }
}

/// Whether the alert in what OpenSSL wrote says that a message made no sense.
fn is_malformed(written: &[Vec<u8>]) -> bool {
    let all = written.iter().flat_map(|datagram| records(datagram));
    let mut alerts = all.filter(|record| record.kind == Kind::Alert);
    alerts.all(|alert| alert.bytes.last().is_some_and(|what| !REFUSALS.contains(what)))
}

/// `bytes` in the buffer that str0m lends; `None` when they do not fit.
fn lent<'a>(buffer: &'a mut [u8], bytes: &[u8]) -> Option<&'a [u8]> {
    let place = buffer.get_mut(..bytes.len())?;
    place.copy_from_slice(bytes);
    Some(place)
}

fn packet<'a>(buffer: &'a mut [u8], datagram: &[u8]) -> DtlsOutput<'a> {
    let needed = datagram.len();
    lent(buffer, datagram).map_or(DtlsOutput::BufferTooSmall { needed }, DtlsOutput::Packet)
}
