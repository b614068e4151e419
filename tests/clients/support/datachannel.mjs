// libdatachannel, which OBS is built on, by node-datachannel: publishes as OBS does, and plays.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import datachannel from 'node-datachannel';
import { H264, OPUS, PICTURE, Program, TONE, ffmpegOfPyPI } from './program.mjs';

const AUDIO = { ssrc: 1001, payloadType: 111 };
const VIDEO = { ssrc: 1002, payloadType: 96 };
/** An access unit delimiter in Annex B: an access unit begins with it. */
const DELIMITER = Buffer.from([0, 0, 0, 1, 9]);

const open = new Set();

class Peer {
  state = 'new';
  offer = null;
  resource = null;
  pc;

  constructor() {
    this.pc = new datachannel.PeerConnection('peer', { iceServers: [], bindAddress: '127.0.0.1', disableAutoNegotiation: true });
    this.pc.onStateChange((state) => { this.state = state; });
    open.add(this);
  }

  async post(url) {
    await new Promise((done) => {
      this.pc.onGatheringStateChange((state) => state === 'complete' && done());
      this.pc.setLocalDescription('offer');
    });
    this.offer = this.pc.localDescription().sdp;
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: this.offer });
    const answer = await response.text();
    if (response.status !== 201) throw new Error(`${response.status}: ${answer}`);
    this.resource = new URL(response.headers.get('location'), url);
    this.pc.setRemoteDescription(answer, 'answer');
  }

  /** Returns the status of its DELETE. */
  async end() {
    open.delete(this);
    this.pc.close();
    return (await fetch(this.resource, { method: 'DELETE' })).status;
  }
}

/** Publishes H.264 by libdatachannel's packetiser and Opus, both made by FFmpeg. */
export class Publisher extends Peer {
  #encoders = [];
  #socket = createSocket('udp4');

  async publish(url, encoding = H264) {
    const audio = new datachannel.Audio('0', 'SendOnly');
    audio.addOpusCodec(AUDIO.payloadType);
    audio.addSSRC(AUDIO.ssrc, 'obs', 'obs-stream', 'obs-audio');
    const sound = this.pc.addTrack(audio);
    const video = new datachannel.Video('1', 'SendOnly');
    video.addH264Codec(VIDEO.payloadType, 'profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1');
    video.addSSRC(VIDEO.ssrc, 'obs', 'obs-stream', 'obs-video');
    const picture = this.pc.addTrack(video);
    const rtp = new datachannel.RtpPacketizationConfig(VIDEO.ssrc, 'obs', VIDEO.payloadType, 90_000);
    const packetizer = new datachannel.H264RtpPacketizer('StartSequence', rtp);
    packetizer.addToChain(new datachannel.RtcpSrReporter(rtp));
    packetizer.addToChain(new datachannel.RtcpNackResponder());
    picture.setMediaHandler(packetizer);
    await this.post(url);

    const ffmpeg = await ffmpegOfPyPI();
    const quiet = ['-hide_banner', '-loglevel', 'error'];
    const encoder = new Program(ffmpeg, [...quiet, ...PICTURE, ...encoding, '-bsf:v', 'h264_metadata=aud=insert', '-flush_packets', '1', '-f', 'h264', '-'], { stdin: 'ignore' });
    this.#encoders.push(encoder);
    let rest = Buffer.alloc(0);
    encoder.stdout.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      for (let next; (next = rest.indexOf(DELIMITER, DELIMITER.length)) > 0; rest = rest.subarray(next)) {
        if (!picture.isOpen()) continue;
        picture.sendMessageBinary(rest.subarray(0, next));
        rtp.timestamp += 3000;
      }
    });
    this.#socket.bind(0, '127.0.0.1');
    await once(this.#socket, 'listening');
    this.#socket.on('message', (packet) => { if (sound.isOpen()) sound.sendMessageBinary(packet); });
    const rtpOut = ['-ssrc', String(AUDIO.ssrc), '-payload_type', String(AUDIO.payloadType), '-f', 'rtp', `rtp://127.0.0.1:${this.#socket.address().port}`];
    this.#encoders.push(new Program(ffmpeg, [...quiet, ...TONE, ...OPUS, ...rtpOut], { stdin: 'ignore' }));
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
  #tracks = [];

  async play(url) {
    const audio = new datachannel.Audio('0', 'RecvOnly');
    audio.addOpusCodec(AUDIO.payloadType);
    const video = new datachannel.Video('1', 'RecvOnly');
    video.addH264Codec(VIDEO.payloadType, 'profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1');
    for (const [kind, media] of [['audio', audio], ['video', video]]) {
      const track = this.pc.addTrack(media);
      track.setMediaHandler(new datachannel.RtcpReceivingSession());
      track.onMessage((packet) => this.#take(kind, packet));
      this.#tracks.push(track);
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
    if (kind === 'video' && beginsKeyframe(payloadOf(packet))) this.keyframes += 1;
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
  for (const peer of open) await peer.end().catch(() => { /* its server is gone */ });
  datachannel.cleanup();
}
