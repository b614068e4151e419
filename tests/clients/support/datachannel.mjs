// libdatachannel, which OBS is built on, by node-datachannel: publishes as OBS does, and plays.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import datachannel from 'node-datachannel';
import { AUD, H264, OPUS, PICTURE, Program, QUIET, TONE, ffmpegOfPyPI } from './program.mjs';

const AUDIO = { ssrc: 1001, payloadType: 111 };
const VIDEO = { ssrc: 1002, payloadType: 96 };
/** Of an RTP packet without CSRCs and extensions, as FFmpeg writes it. */
const RTP_HEADER_BYTES = 12;
/** An access unit delimiter in Annex B: an access unit begins with it. */
const DELIMITER = Buffer.from([0, 0, 0, 1, 9]);

const open = new Set();
/** The library's objects, to the end: what the garbage collector takes from under its threads crashes the process. */
const kept = [];
const keep = (object) => {
  kept.push(object);
  return object;
};

class Peer {
  state = 'new';
  offer = null;
  resource = null;
  /** What the server told beside its answer: { location, link, type }. */
  told = null;
  pc;
  #headers = {};

  constructor() {
    this.pc = keep(new datachannel.PeerConnection('peer', { iceServers: [], bindAddress: '127.0.0.1', disableAutoNegotiation: true }));
    this.pc.onStateChange((state) => { this.state = state; });
    open.add(this);
  }

  /** With `token`, as Bearer. Without candidates and trickle: OBS gathers when it has been told of ICE servers. */
  async post(url, token) {
    this.pc.setLocalDescription('offer');
    const lines = this.pc.localDescription().sdp.split('\r\n').filter((line) => !/^a=(candidate|end-of-candidates)/.test(line));
    this.offer = lines.map((line) => line.replace(/^(m=\w+) \d+/, '$1 9').replace(/^c=.*/, 'c=IN IP4 0.0.0.0')).join('\r\n');
    this.#headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(url, { method: 'POST', headers: { ...this.#headers, 'content-type': 'application/sdp' }, body: this.offer });
    const answer = await response.text();
    if (response.status !== 201) {
      this.abandon();
      throw new Error(`${response.status}: ${answer}`);
    }
    const { headers } = response;
    this.told = { location: headers.get('location'), link: headers.get('link'), type: headers.get('content-type') };
    this.resource = new URL(this.told.location, url);
    this.pc.setRemoteDescription(answer, 'answer');
  }

  /** Returns the status of its DELETE. */
  async end() {
    // In this order: once the peer connection is closed, the session may be gone before its DELETE comes.
    const { status } = await fetch(this.resource, { method: 'DELETE', headers: this.#headers });
    this.abandon();
    return status;
  }

  /** Its server is gone. */
  abandon() {
    open.delete(this);
    this.pc.close();
  }
}

/**
 * Publishes H.264 and Opus, both made by FFmpeg, as OBS's WHIP output does: sound first, one cname and stream for both, sender
 * reports and retransmission by libdatachannel, whose packetiser sends each parameter set in a packet of its own.
 */
export class Publisher extends Peer {
  #encoders = [];
  #socket = createSocket('udp4');

  /** Without `reports` as OBS was before it sent any; `token` goes to the server as Bearer. */
  async publish(url, { encoding = H264, reports = true, token } = {}) {
    const [cname, stream] = ['9d1fBq2Zx0aaBBcc', 'nLqvIgBDbFxkw4Xk'];
    const audio = keep(new datachannel.Audio('0', 'SendOnly'));
    audio.addOpusCodec(AUDIO.payloadType);
    audio.addSSRC(AUDIO.ssrc, cname, stream, `${stream}-audio`);
    const sound = keep(this.pc.addTrack(audio));
    const video = keep(new datachannel.Video('1', 'SendOnly'));
    video.addH264Codec(VIDEO.payloadType);
    video.addSSRC(VIDEO.ssrc, cname, stream, `${stream}-video`);
    const picture = keep(this.pc.addTrack(video));
    const handle = (track, { ssrc, payloadType }, clockRate, Packetizer, ...how) => {
      const rtp = keep(new datachannel.RtpPacketizationConfig(ssrc, cname, payloadType, clockRate));
      const packetizer = keep(new Packetizer(...how, rtp));
      if (reports) packetizer.addToChain(keep(new datachannel.RtcpSrReporter(rtp)));
      packetizer.addToChain(keep(new datachannel.RtcpNackResponder()));
      track.setMediaHandler(packetizer);
      return rtp;
    };
    const rtp = {
      audio: handle(sound, AUDIO, 48_000, datachannel.RtpPacketizer),
      video: handle(picture, VIDEO, 90_000, datachannel.H264RtpPacketizer, 'StartSequence'),
    };
    await this.post(url, token);

    const ffmpeg = await ffmpegOfPyPI();
    const encoder = new Program(ffmpeg, [...QUIET, ...PICTURE, ...encoding, ...AUD, '-flush_packets', '1', '-f', 'h264', '-'], { stdin: 'ignore' });
    this.#encoders.push(encoder);
    let rest = Buffer.alloc(0);
    encoder.stdout.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      for (let next; (next = rest.indexOf(DELIMITER, DELIMITER.length)) > 0; rest = rest.subarray(next)) {
        if (!picture.isOpen()) continue;
        picture.sendMessageBinary(rest.subarray(0, next));
        rtp.video.timestamp += 3000;
      }
    });
    this.#socket.bind(0, '127.0.0.1');
    await once(this.#socket, 'listening');
    this.#socket.on('message', (packet) => {
      if (!sound.isOpen()) return;
      sound.sendMessageBinary(packet.subarray(RTP_HEADER_BYTES));
      rtp.audio.timestamp += 960;
    });
    const rtpOut = ['-f', 'rtp', `rtp://127.0.0.1:${this.#socket.address().port}`];
    this.#encoders.push(new Program(ffmpeg, [...QUIET, ...TONE, ...OPUS, ...rtpOut], { stdin: 'ignore' }));
  }

  async end() {
    await Promise.all(this.#encoders.map((encoder) => encoder.kill()));
    this.#socket.close();
    return super.end();
  }
}

/** Plays; counts RTP packets for each payload type's kind and SSRC. */
export class Player extends Peer {
  received = { audio: new Map(), video: new Map() };
  /** Packets that begin a keyframe of H.264: an IDR slice, alone or in fragments. */
  keyframes = 0;
  /** The kinds of NAL units (RFC 6184 §5.2) of the first packets. */
  firstUnits = [];

  async play(url) {
    const audio = keep(new datachannel.Audio('0', 'RecvOnly'));
    audio.addOpusCodec(AUDIO.payloadType);
    const video = keep(new datachannel.Video('1', 'RecvOnly'));
    video.addH264Codec(VIDEO.payloadType, 'profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1');
    for (const [kind, media] of [['audio', audio], ['video', video]]) {
      const track = keep(this.pc.addTrack(media));
      track.setMediaHandler(keep(new datachannel.RtcpReceivingSession()));
      track.onMessage((packet) => this.#take(kind, packet));
    }
    await this.post(url);
  }

  /** How many packets of a kind came. */
  count(kind) {
    return [...this.received[kind].values()].reduce((sum, count) => sum + count, 0);
  }

  /** The SSRCs of each kind. */
  get lineUp() {
    return { audio: [...this.received.audio.keys()], video: [...this.received.video.keys()] };
  }

  #take(kind, packet) {
    // RTCP comes by here too (RFC 5761 §4).
    if (packet.length < 13 || (packet[1] >= 192 && packet[1] <= 223)) return;
    const ssrc = packet.readUInt32BE(8);
    this.received[kind].set(ssrc, (this.received[kind].get(ssrc) ?? 0) + 1);
    if (kind === 'audio') return;
    const payload = payloadOf(packet);
    if (this.firstUnits.length < 3) this.firstUnits.push(payload[0] & 0x1f);
    if (beginsKeyframe(payload)) this.keyframes += 1;
  }
}

function payloadOf(packet) {
  let start = 12 + 4 * (packet[0] & 0x0f);
  if (packet[0] & 0x10) start += 4 + 4 * packet.readUInt16BE(start + 2);
  return packet.subarray(start);
}

/** RFC 6184: a single IDR slice, the first fragment of one, or one in an aggregate. */
function beginsKeyframe(payload) {
  const type = payload[0] & 0x1f;
  if (type === 28) return (payload[1] & 0x9f) === 0x85;
  if (type !== 24) return type === 5;
  for (let at = 1; at + 2 < payload.length; at += 2 + payload.readUInt16BE(at)) {
    if ((payload[at + 2] & 0x1f) === 5) return true;
  }
  return false;
}

/** Ends what a scenario that failed has left, and lets go of libdatachannel's threads: both would keep the process. */
export async function cleanup() {
  for (const peer of [...open]) await peer.end().catch(() => peer.abandon());
  datachannel.cleanup();
}
