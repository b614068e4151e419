//! One client: a str0m peer connection of its own, with what it sends and a log of all that reached it.
//!
//! **Invariant:** a client behaves as a browser does (full ICE, answers what it is asked) unless a test tells it not to,
//! and what it received is logged as it came, never mended.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onair::egress::sink::Transport;
use onair::hub::io::SessionId;
use onair::rtp::codec::{Codec, TrackKind};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::format::{Codec as Format, PayloadParams};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::rtp::rtcp::SenderInfo;
use str0m::rtp::{Extension, ExtensionValues, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use super::media::{Encoder, Token};
use super::network::{Datagram, Network};

/// How long an encoder takes from a request to its keyframe.
const ENCODER_DELAY: Duration = Duration::from_millis(30);

/// One RTP packet as a client got it, after any retransmission.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// The m-line.
    pub mid: Mid,
    /// The SSRC of the track, also of a packet that was retransmitted.
    pub ssrc: u32,
    /// The payload type.
    pub payload_type: u8,
    /// The extended sequence number.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The payload.
    pub payload: Arc<[u8]>,
    /// What it is.
    pub token: Token,
    /// The header extensions.
    pub extensions: ExtensionValues,
    /// The sender report that was the latest when it came.
    pub report: Option<SenderInfo>,
}

/// One track that a client sends.
#[derive(Debug)]
pub struct Outgoing {
    /// Its m-line.
    pub mid: Mid,
    /// What makes its packets.
    pub encoder: Encoder,
    /// How long a frame takes from capture to the network.
    pub latency: Duration,
}

/// An offer of the server that was not answered yet.
#[derive(Debug, Clone)]
pub struct Offered {
    /// The SDP.
    pub sdp: String,
    /// Its number.
    pub seq: u64,
}

/// A client.
pub struct Client {
    /// Its signaling session.
    pub session: SessionId,
    /// Its peer connection.
    pub rtc: Rtc,
    /// Where it can be reached.
    pub address: SocketAddr,
    /// When its peer connection was connected.
    pub connected_at: Option<Instant>,
    /// Whether it keeps the server's offers without answering.
    pub withholds_answers: bool,
    /// Whether it sends no media.
    pub is_mute: bool,
    /// Whether its process is gone: nothing goes in or out.
    pub is_gone: bool,
    /// Changes every SDP that it signals, as another maker's client would have written it.
    pub edits: Option<fn(&str) -> String>,
    /// Changes every answer that it is sent, back to what its str0m knows.
    pub edits_back: Option<fn(&str) -> String>,
    /// Its own offer that waits for an answer.
    pub pending: Option<SdpPendingOffer>,
    /// Offers that it withholds the answer to.
    pub offered: VecDeque<Offered>,
    /// M-lines that it offered: audio, video.
    pub mids: [Option<Mid>; 2],
    /// What it sends.
    pub outgoing: Vec<Outgoing>,
    /// The codec of the video that it sends, where it is not the first of the answer.
    pub sends: Option<Codec>,
    /// Every packet that came.
    pub received: Vec<Received>,
    /// When it was asked for a keyframe.
    pub keyframe_requests: Vec<Instant>,
    /// Data channels that are open.
    pub channels: Vec<(ChannelId, String)>,
    /// What came on data channels: when, on which, what.
    pub messages: Vec<(Instant, ChannelId, Vec<u8>)>,
    /// Every sender report that came.
    pub reports: Vec<(Instant, Mid, SenderInfo)>,
    /// The other side closed the connection.
    pub is_closed: bool,
    rtc_timeout: Instant,
}

impl Client {
    /// A client at `address` that knows Opus and `codecs`.
    pub fn new(session: SessionId, address: SocketAddr, codecs: &[Codec], now: Instant) -> Self {
        Self::with(RtcConfig::new(), session, address, codecs, now)
    }

    /// A client at `address` that knows Opus and `codecs`, and is else as `config` says.
    pub fn with(config: RtcConfig, session: SessionId, address: SocketAddr, codecs: &[Codec], now: Instant) -> Self {
        let mut config = config
            .set_rtp_mode(true)
            // Browsers offer it, str0m by itself does not.
            .set_extension(5, Extension::PlayoutDelay)
            .clear_codecs()
            .enable_opus(true, false);
        for codec in codecs {
            config = match codec {
                Codec::Opus => config,
                Codec::Vp8 => config.enable_vp8(true),
                Codec::Vp9 => config.enable_vp9(true),
                Codec::Av1 => config.enable_av1(true),
                Codec::H264 => config.enable_h264(true),
                Codec::H265 => config.enable_h265(true),
            };
        }
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("an address"));
        Self {
            session,
            rtc,
            address,
            connected_at: None,
            withholds_answers: false,
            is_mute: false,
            is_gone: false,
            edits: None,
            edits_back: None,
            pending: None,
            offered: VecDeque::new(),
            mids: [None; 2],
            outgoing: Vec::new(),
            sends: None,
            received: Vec::new(),
            keyframe_requests: Vec::new(),
            channels: Vec::new(),
            messages: Vec::new(),
            reports: Vec::new(),
            is_closed: false,
            rtc_timeout: now,
        }
    }

    /// An offer to send, or to receive, of the given kinds, with a data channel of that label if one is named.
    pub fn offer(&mut self, kinds: [bool; 2], direction: Direction, channels: &[&str]) -> String {
        let mut api = self.rtc.sdp_api();
        for (kind, wanted) in [MediaKind::Audio, MediaKind::Video].into_iter().zip(kinds) {
            let place = &mut self.mids[usize::from(kind.is_video())];
            if wanted && place.is_none() {
                *place = Some(api.add_media(kind, direction, Some("stream".into()), None, None));
            }
        }
        for label in channels {
            api.add_channel((*label).to_owned());
        }
        let (offer, pending) = api.apply().expect("something to offer");
        self.pending = Some(pending);
        self.edited(&offer.to_sdp_string())
    }

    /// An offer that restarts ICE.
    pub fn offer_ice_restart(&mut self) -> String {
        let mut api = self.rtc.sdp_api();
        api.ice_restart(true);
        let (offer, pending) = api.apply().expect("a restart is a change");
        self.pending = Some(pending);
        self.edited(&offer.to_sdp_string())
    }

    /// An offer that changes an m-line's direction.
    pub fn offer_direction(&mut self, mid: Mid, direction: Direction) -> String {
        let mut api = self.rtc.sdp_api();
        api.set_direction(mid, direction);
        let (offer, pending) = api.apply().expect("a direction is a change");
        self.pending = Some(pending);
        self.edited(&offer.to_sdp_string())
    }

    /// Goes on from another address, as after a change of networks.
    pub fn move_to(&mut self, address: SocketAddr) {
        let old = Candidate::host(self.address, "udp").expect("an address");
        self.rtc.direct_api().invalidate_candidate(&old);
        self.rtc.add_local_candidate(Candidate::host(address, "udp").expect("an address"));
        self.address = address;
    }

    /// Lets it come by TCP connections that it makes, and no other way.
    pub fn use_tcp(&mut self) {
        let udp = Candidate::host(self.address, "udp").expect("an address");
        self.rtc.direct_api().invalidate_candidate(&udp);
        let tcp = Candidate::builder().tcp().host(self.address).tcptype(TcpType::Active).build();
        self.rtc.add_local_candidate(tcp.expect("an address"));
    }

    /// Takes the answer to its own offer.
    pub fn take_answer(&mut self, sdp: &str) {
        let sdp = self.edits_back.map_or_else(|| sdp.to_owned(), |edit| edit(sdp));
        let answer = SdpAnswer::from_sdp_string(&sdp).expect("the server's answer parses");
        let pending = self.pending.take().expect("an offer is pending");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("the server's answer is taken");
    }

    /// Takes an offer and returns its answer.
    pub fn answer(&mut self, offer: &Offered) -> String {
        let parsed = SdpOffer::from_sdp_string(&offer.sdp).expect("the server's offer parses");
        let answer = self.rtc.sdp_api().accept_offer(parsed).expect("the server's offer is taken");
        self.edited(&answer.to_sdp_string())
    }

    fn edited(&self, sdp: &str) -> String {
        self.edits.map_or_else(|| sdp.to_owned(), |edit| edit(sdp))
    }

    /// When it has something to do.
    pub fn wake_at(&self) -> Option<Instant> {
        if self.is_gone || self.is_closed {
            return None;
        }
        let media = self.outgoing.iter().filter(|_| self.sends_media());
        media.map(|track| track.encoder.next_at + track.latency).chain([self.rtc_timeout]).min()
    }

    /// Lets it have something to do at once: what was changed from outside is to take effect.
    pub fn poke(&mut self, now: Instant) {
        self.rtc_timeout = now;
    }

    fn sends_media(&self) -> bool {
        self.connected_at.is_some() && !self.is_mute
    }

    /// Does what is due: media, then whatever str0m has to say.
    pub fn wake(&mut self, now: Instant, network: &mut Network) {
        if self.is_gone {
            return;
        }
        if self.sends_media() {
            self.send_media(now, network);
        }
        self.feed(Input::Timeout(now), now, network);
    }

    /// Takes a datagram.
    pub fn receive(&mut self, datagram: &Datagram, now: Instant, network: &mut Network) {
        if self.is_gone || datagram.to != self.address {
            return;
        }
        let protocol = match datagram.transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let receive = Receive::new(protocol, datagram.from, datagram.to, &datagram.bytes);
        let Ok(receive) = receive else {
            panic!("the server sent {:02x?}", datagram.bytes);
        };
        self.feed(Input::Receive(now, receive), now, network);
    }

    fn feed(&mut self, input: Input<'_>, now: Instant, network: &mut Network) {
        let fed = self.rtc.handle_input(input);
        assert!(fed.is_ok() || !self.rtc.is_alive(), "a client's peer connection failed: {fed:?}");
        while self.rtc.is_alive() {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.rtc_timeout = at.max(now + Duration::from_micros(1));
                    return;
                }
                Ok(Output::Transmit(transmit)) => network.send(
                    now,
                    Datagram {
                        transport: if transmit.proto == Protocol::Tcp { Transport::Tcp } else { Transport::Udp },
                        from: self.address,
                        to: transmit.destination,
                        bytes: transmit.contents.to_vec(),
                    },
                ),
                Ok(Output::Event(event)) => self.note(now, event),
                Err(error) => panic!("a client's peer connection failed: {error}"),
            }
        }
        self.is_closed = true;
    }

    fn note(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected => {
                self.connected_at = Some(now);
                for track in &mut self.outgoing {
                    track.encoder.next_at = track.encoder.next_at.max(now);
                }
            }
            Event::RtpPacket(packet) => {
                let mid =
                    self.rtc.direct_api().stream_rx(&packet.header.ssrc).expect("a packet belongs to a stream").mid();
                self.received.push(Received {
                    at: now,
                    mid,
                    ssrc: *packet.header.ssrc,
                    payload_type: *packet.header.payload_type,
                    sequence: *packet.seq_no,
                    timestamp: packet.header.timestamp,
                    marker: packet.header.marker,
                    token: Token::of(&packet.payload),
                    payload: packet.payload,
                    extensions: packet.header.ext_vals,
                    report: packet.last_sender_info,
                });
            }
            Event::KeyframeRequest(request) => {
                self.keyframe_requests.push(now);
                for track in self.outgoing.iter_mut().filter(|track| track.mid == request.mid) {
                    track.encoder.request_keyframe(now + ENCODER_DELAY);
                }
            }
            Event::SenderFeedback(feedback) => self.reports.push((now, feedback.mid, feedback.sender_info)),
            Event::ChannelOpen(channel, label) => self.channels.push((channel, label)),
            Event::ChannelClose(closed) => self.channels.retain(|(channel, _)| *channel != closed),
            Event::ChannelData(data) => self.messages.push((now, data.id, data.data)),
            Event::Closed => self.is_closed = true,
            _ => {}
        }
    }

    fn send_media(&mut self, now: Instant, network: &mut Network) {
        for index in 0..self.outgoing.len() {
            while self.outgoing[index].encoder.next_at + self.outgoing[index].latency <= now {
                self.send_frame(index);
                // What was written is to leave before the next is.
                self.feed(Input::Timeout(now), now, network);
            }
        }
    }

    fn send_frame(&mut self, index: usize) {
        let track = &mut self.outgoing[index];
        let first = track.encoder.capture();
        let (mid, codec) = (track.mid, track.encoder.codec);
        let payload_type = self.payload_type(mid, codec);
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).expect("a stream for each track");
        for sent in &self.outgoing[index].encoder.sent[first..] {
            stream.write_rtp(
                RtpWrite::new(
                    payload_type.into(),
                    sent.sequence.into(),
                    sent.timestamp,
                    sent.captured,
                    Arc::clone(&sent.payload),
                )
                .marker(sent.marker)
                .ext_vals(sent.extensions.clone())
                .nackable(codec.kind() == TrackKind::Video),
            );
        }
    }

    /// The payload type that was negotiated for a codec.
    pub fn payload_type(&self, mid: Mid, codec: Codec) -> u8 {
        *self.params(mid, codec).pt()
    }

    /// The payload type that was negotiated for a codec's retransmissions.
    pub fn rtx_payload_type(&self, mid: Mid, codec: Codec) -> u8 {
        *self.params(mid, codec).resend().unwrap_or_else(|| panic!("RTX of {codec} was negotiated"))
    }

    /// What was negotiated for a codec.
    pub fn params(&self, mid: Mid, codec: Codec) -> &PayloadParams {
        let accepted = self.rtc.media(mid).expect("the m-line").remote_pts();
        let format = match codec {
            Codec::Opus => Format::Opus,
            Codec::H264 => Format::H264,
            Codec::H265 => Format::H265,
            Codec::Vp8 => Format::Vp8,
            Codec::Vp9 => Format::Vp9,
            Codec::Av1 => Format::Av1,
        };
        let mut params = self.rtc.codec_config().params().iter();
        let found = params.find(|param| param.spec().codec == format && accepted.contains(&param.pt()));
        found.unwrap_or_else(|| panic!("{codec} was negotiated"))
    }

    /// Which codecs were negotiated for an m-line, in the order of the answer.
    pub fn negotiated(&self, mid: Mid) -> Vec<Format> {
        let Some(media) = self.rtc.media(mid) else {
            return Vec::new();
        };
        let config = self.rtc.codec_config();
        let format = |pt| config.params().iter().find(|param| param.pt() == pt).map(|param| param.spec().codec);
        media.remote_pts().iter().filter_map(|pt| format(*pt)).collect()
    }

    /// Asks for a keyframe on an m-line.
    pub fn request_keyframe(&mut self, mid: Mid) {
        let mut api = self.rtc.direct_api();
        let stream = api.stream_rx_by_mid(mid, None).expect("a stream");
        stream.request_keyframe(KeyframeRequestKind::Pli);
    }

    /// Sends a track under another SSRC from now on, with another encoder; returns the one before.
    pub fn restart_track(&mut self, kind: TrackKind, encoder: Encoder) -> Encoder {
        let mid = self.track(kind).mid;
        let mut api = self.rtc.direct_api();
        let (ssrc, rtx) = (api.new_ssrc(), api.new_ssrc());
        let rtx = (kind == TrackKind::Video).then_some(rtx);
        // Not `reset_stream_tx`: feedback about the new SSRC would not be found.
        let before = api.stream_tx_by_mid(mid, None).expect("a stream").ssrc();
        api.remove_stream_tx(before);
        api.declare_stream_tx(ssrc, rtx, mid, None);
        self.replace_encoder(kind, encoder)
    }

    /// Goes on sending a track, with another encoder; returns the one before.
    pub fn replace_encoder(&mut self, kind: TrackKind, encoder: Encoder) -> Encoder {
        std::mem::replace(&mut self.track_mut(kind).encoder, encoder)
    }

    /// Opens a data channel on a connection that has some.
    pub fn open_channel(&mut self, label: &str) {
        let config = ChannelConfig { label: label.to_owned(), ..ChannelConfig::default() };
        self.rtc.direct_api().create_data_channel(config);
    }

    /// Closes its peer connection, as a browser does.
    pub fn close(&mut self) {
        self.rtc.close().expect("it closes");
    }

    /// Sends on the data channel of that label.
    pub fn say(&mut self, label: &str, message: &[u8]) {
        let channel = self.channels.iter().find(|(_, open)| open == label).expect("an open channel").0;
        let written = self.rtc.channel(channel).expect("the channel").write(false, message);
        assert_eq!(written.ok(), Some(true), "the channel takes the message");
    }

    /// Drops everything that was noted of what came and went.
    pub fn forget(&mut self) {
        self.received = Vec::new();
        self.keyframe_requests = Vec::new();
        self.messages = Vec::new();
        self.reports = Vec::new();
        self.outgoing.iter_mut().for_each(|track| track.encoder.sent = Vec::new());
    }

    /// What came on an m-line, each sequence number once and in order.
    pub fn stream(&self, mid: Mid) -> Vec<&Received> {
        let mut packets: Vec<_> = self.received.iter().filter(|packet| packet.mid == mid).collect();
        packets.sort_by_key(|packet| packet.sequence);
        packets
    }

    /// The encoder of one kind.
    pub fn encoder(&self, kind: TrackKind) -> &Encoder {
        &self.track(kind).encoder
    }

    /// The track of one kind that it sends.
    pub fn track(&self, kind: TrackKind) -> &Outgoing {
        let mut tracks = self.outgoing.iter();
        tracks.find(|track| track.encoder.codec.kind() == kind).expect("the track")
    }

    /// The track of one kind that it sends.
    pub fn track_mut(&mut self, kind: TrackKind) -> &mut Outgoing {
        let mut tracks = self.outgoing.iter_mut();
        tracks.find(|track| track.encoder.codec.kind() == kind).expect("the track")
    }
}
