// GStreamer's four elements against the real server: whipsink and whipclientsink publish, whepsrc and whepclientsrc play. All
// of them have RSA certificates. `make test-gstreamer` builds them first, from pinned crates.

import assert from 'node:assert/strict';
import { decode, finishedOnes, probe } from '../browser/support/recording.mjs';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Viewer } from '../browser/support/viewer.mjs';
import { Program } from './support/program.mjs';

const { ONAIR_GSTREAMER } = process.env;
if (!ONAIR_GSTREAMER) throw new Error('ONAIR_GSTREAMER names no program: make test-gstreamer builds and names it');

const gstreamer = (...pipeline) => Program.json(ONAIR_GSTREAMER, pipeline.join(' '));

const PICTURE = 'videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=30/1';
const TONE = 'audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2';
const DECODED_PICTURE = 'fakesink name=count-video sync=false async=false';
const DECODED_SOUND = 'fakesink name=count-audio sync=false async=false';

const publishers = {
  // Takes RTP, as its pipeline encodes it.
  whipsink: {
    h264: (url) => [
      `whipsink name=sink whip-endpoint=${url}`,
      PICTURE, '! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=600 ! video/x-h264,profile=constrained-baseline',
      '! rtph264pay aggregate-mode=zero-latency ! application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000 ! sink.sink_0',
      TONE, '! opusenc ! rtpopuspay ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2 ! sink.sink_1',
    ],
  },
  // Takes pictures and encodes them itself.
  whipclientsink: Object.fromEntries(['h264', 'vp8', 'vp9'].map((codec) => [codec, (url) => [
    `whipclientsink name=sink signaller::whip-endpoint=${url} stun-server="" start-bitrate=600000 video-caps=video/x-${codec}`,
    PICTURE, '! sink.', TONE, '! sink.',
  ]])),
};

const players = {
  // Gives RTP.
  whepsrc: (url) => [
    `whepsrc name=source whep-endpoint=${url}`,
    'audio-caps="application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000"',
    'video-caps="application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000"',
    'rtph264depay name=video ! h264parse ! openh264dec !', DECODED_PICTURE, 'rtpopusdepay name=audio ! opusdec !', DECODED_SOUND,
  ],
  // Gives what it has decoded.
  whepclientsrc: (url) => [
    `whepclientsrc name=source stun-server="" signaller::whep-endpoint=${url}`,
    'queue name=video ! decodebin !', DECODED_PICTURE, 'queue name=audio ! decodebin !', DECODED_SOUND,
  ],
};

const whole = { h264: ['h264', 'opus'], vp8: ['h264', 'opus'], vp9: ['vp9', 'opus'] };

for (const [publishing, codec, playing] of [
  ['whipsink', 'h264', 'whepsrc'],
  ['whipclientsink', 'h264', 'whepclientsrc'],
  ['whipclientsink', 'vp8', 'whepclientsrc'],
  ['whipclientsink', 'vp9', 'whepclientsrc'],
]) {
  scenario(`${publishing} publishes ${codec} and Opus, ${playing} and Chromium play them`, async (stage) => {
    // libnice pairs no address of its own with 127.0.0.1.
    const server = await stage.serveEverywhere();
    const publisher = gstreamer(...publishers[publishing][codec](`${server.url}/whip/lobby/gst`));
    await until('it is live', async () => {
      if (!publisher.isRunning) throw Object.assign(new Error(publisher.errors), { hopeless: true });
      const [live] = await server.api('/api/broadcasts');
      return live?.id === 'lobby/gst' && live.tracks.map((track) => track.codec).join() === `opus,${codec}`;
    });
    const player = gstreamer(...players[playing](`${server.url}/whep/lobby/gst`));
    const { counts } = await until(`${playing} decodes`, () => {
      const said = player.latest('counts');
      const { audio, video } = said.counts;
      if (video.buffers > 60 && audio.buffers > 100) return said;
      throw new Error(JSON.stringify(said.counts));
    });
    assert.match(counts.video.caps, /^video\/x-raw.* width=\(int\)640, height=\(int\)360,/);
    const viewer = new Viewer(await stage.tab('viewer'));
    await viewer.open('lobby', 'gst', { muted: true });
    const { element } = await viewer.waitPlaying('lobby/gst');
    assert.deepEqual([element.width, element.height], [640, 360]);
    stage.note(`${publishing}, ${codec}: ${playing} decoded ${counts.video.buffers} pictures and ${counts.audio.buffers} buffers of sound`);

    // Both end their sessions themselves: nobody has to wait for silence.
    assert.deepEqual(await player.end(), { code: 0, signal: null }, player.errors);
    await until('the player has left', async () => (await server.api('/api/broadcasts'))[0].viewers === 1, { within_ms: 5000 });
    assert.deepEqual(await publisher.end(), { code: 0, signal: null }, publisher.errors);
    await until('the broadcaster has left', async () => (await server.api('/api/broadcasts')).length === 0, { within_ms: 5000 });

    const [path] = await finishedOnes(server, 1);
    const { video, audio } = await probe(server.recordings, path);
    assert.deepEqual([video.codec, audio.codec], whole[codec]);
    assert.equal(video.width, 640);
    const { complaints, frames } = await decode(server.recordings, path);
    assert.deepEqual(complaints, []);
    assert.equal(frames, video.packets);
  });
}
