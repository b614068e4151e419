// werift, a WebRTC of TypeScript alone: publishes VP8 and plays it.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, RtpPacket } from 'werift';
import { OPUS, PICTURE, Program, QUIET, TONE, VP8, ffmpegOfPyPI } from './program.mjs';

const codecs = {
  audio: [new RTCRtpCodecParameters({ mimeType: 'audio/opus', clockRate: 48_000, channels: 2 })],
  video: [new RTCRtpCodecParameters({ mimeType: 'video/VP8', clockRate: 90_000, rtcpFeedback: [{ type: 'nack' }, { type: 'nack', parameter: 'pli' }] })],
};

class Peer {
  offer = null;
  resource = null;
  pc = new RTCPeerConnection({ codecs, bundlePolicy: 'max-bundle', iceServers: [], iceAdditionalHostAddresses: ['127.0.0.1'] });

  get state() { return this.pc.connectionState; }
  /** What DTLS agreed on: 7 is AEAD_AES_128_GCM, 1 AES128_CM_SHA1_80 (RFC 7714 §14.2, RFC 5764 §4.1.2). */
  get srtpProfile() { return this.pc.dtlsTransports[0].dtls.srtp.srtpProfile; }

  async post(url) {
    await this.pc.setLocalDescription(await this.pc.createOffer());
    this.offer = this.pc.localDescription.sdp;
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: this.offer });
    const answer = await response.text();
    if (response.status !== 201) throw new Error(`${response.status}: ${answer}`);
    this.resource = new URL(response.headers.get('location'), url);
    await this.pc.setRemoteDescription({ type: 'answer', sdp: answer });
  }

  /** Returns the status of its DELETE. */
  async end() {
    const { status } = await fetch(this.resource, { method: 'DELETE' });
    await this.pc.close();
    return status;
  }
}

/** Publishes what FFmpeg encodes. */
export class Publisher extends Peer {
  #encoders = [];
  #sockets = [];

  async publish(url, encoding = VP8) {
    const tracks = { audio: new MediaStreamTrack({ kind: 'audio' }), video: new MediaStreamTrack({ kind: 'video' }) };
    for (const track of Object.values(tracks)) this.pc.addTransceiver(track, { direction: 'sendonly' });
    await this.post(url);
    const ffmpeg = await ffmpegOfPyPI();
    for (const [kind, source] of [['audio', [...TONE, ...OPUS]], ['video', [...PICTURE, ...encoding]]]) {
      const socket = createSocket('udp4');
      this.#sockets.push(socket);
      socket.bind(0, '127.0.0.1');
      await once(socket, 'listening');
      socket.on('message', (packet) => {
        if (this.state === 'connected') tracks[kind].writeRtp(RtpPacket.deSerialize(packet));
      });
      const args = [...QUIET, ...source, '-f', 'rtp', `rtp://127.0.0.1:${socket.address().port}?pkt_size=1200`];
      this.#encoders.push(new Program(ffmpeg, args, { stdin: 'ignore' }));
    }
  }

  async end() {
    await Promise.all(this.#encoders.map((encoder) => encoder.kill()));
    for (const socket of this.#sockets) socket.close();
    return super.end();
  }
}

/** Plays; counts RTP packets. */
export class Player extends Peer {
  received = { audio: 0, video: 0 };
  /** Packets that begin a keyframe of VP8. */
  keyframes = 0;

  async play(url) {
    for (const kind of ['audio', 'video']) {
      this.pc.addTransceiver(kind, { direction: 'recvonly' }).onTrack.subscribe((track) => {
        track.onReceiveRtp.subscribe(({ payload }) => {
          this.received[kind] += 1;
          if (kind === 'video' && beginsKeyframe(payload)) this.keyframes += 1;
        });
      });
    }
    await this.post(url);
  }
}

/** RFC 7741: the first packet of a frame whose tag says so. */
function beginsKeyframe(payload) {
  if ((payload[0] & 0x1f) !== 0x10) return false;
  let at = 1;
  if (payload[0] & 0x80) {
    const extensions = payload[1];
    at += 1;
    if (extensions & 0x80) at += payload[at] & 0x80 ? 2 : 1;
    if (extensions & 0x40) at += 1;
    if (extensions & 0x30) at += 1;
  }
  return (payload[at] & 1) === 0;
}
