// Who comes late to an encoder that takes no keyframe requests, as FFmpeg and werift do: begins with the latest keyframe of the
// past, or waits for the next where that is too long ago.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Viewer } from '../browser/support/viewer.mjs';
import { Player, cleanup } from './support/datachannel.mjs';
import { H264, OPUS, PICTURE, Program, QUIET, TONE, VP8, ffmpegOfPyPI } from './support/program.mjs';
import { Player as Vp8Player, Publisher as Vp8Publisher } from './support/werift.mjs';

after(cleanup);

const BROADCAST = 'lobby/encoder';
/** A keyframe in so many pictures, of which there are 30 a second. */
const every = (pictures, encoding) => encoding.map((word, index) => (encoding[index - 1] === '-g' ? String(pictures) : word));
const keptStarts = (server) => server.metric('onair_kept_starts_total');

async function publishH264(server, pictures) {
  const encoding = [...every(pictures, H264), '-sc_threshold', '0'];
  const encoder = new Program(await ffmpegOfPyPI(), [...QUIET, ...PICTURE, ...TONE, ...encoding, ...OPUS, '-f', 'whip', `${server.url}/whip/${BROADCAST}`]);
  await until('FFmpeg is live', async () => (await server.api('/api/broadcasts'))[0]?.id === BROADCAST);
  return () => encoder.end({ signal: 'SIGINT' });
}

async function publishVp8(server, pictures) {
  const publisher = new Vp8Publisher();
  await publisher.publish(`${server.url}/whip/${BROADCAST}`, every(pictures, VP8));
  await until('werift is live', async () => (await server.api('/api/broadcasts'))[0]?.id === BROADCAST);
  return () => publisher.end();
}

/** Plays until it has seen a keyframe: by then the server has asked for one, and has been ignored or not. */
async function playFromKeyframe(server, player) {
  await player.play(`${server.url}/whep/${BROADCAST}`);
  await until('a keyframe comes', () => player.keyframes > 0);
  return player;
}

for (const [browser, codec, publish, player] of [['viewer', 'H.264', publishH264, Player], ['firefox', 'VP8', publishVp8, Vp8Player]]) {
  scenario(`a late viewer (${browser}) begins with a ${codec} keyframe of the past`, async (stage) => {
    const server = await stage.serveEverywhere('--record', 'off');
    // Never more than 3 s ago, which is within the 4 s that are kept.
    const end = await publish(server, 90);
    // Each one's request may happen to be made just before a keyframe, which then answers it.
    await until('the server knows that requests are ignored', async () => {
      await (await playFromKeyframe(server, new player())).end();
      return await keptStarts(server) > 0;
    });
    const viewer = new Viewer(await stage.tab(browser));
    // A keyframe of the moment may happen to come with its first packet.
    await until('it begins with a keyframe of the past', async () => {
      const before = await keptStarts(server);
      await viewer.open('lobby', 'encoder', { muted: true });
      const { element } = await viewer.waitPlaying(BROADCAST);
      assert.deepEqual([element.width, element.height], [640, 360]);
      return await keptStarts(server) === before + 1;
    });
    await end();
  });
}

scenario('a late viewer waits for the next keyframe where the latest is too long ago', async (stage) => {
  const server = await stage.serveEverywhere('--record', 'off');
  const end = await publishH264(server, 600);
  // The first keyframe comes at once or with the start of the past; then there is none for 20 s.
  const player = await playFromKeyframe(server, new Player());
  await until('five seconds of sound come', () => player.count('audio') > 250);
  const [begun, kept] = [player.keyframes, await keptStarts(server)];

  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'encoder', { muted: true });
  await viewer.waitPlaying(BROADCAST, { video: false });
  const waiting = await viewer.received(BROADCAST);
  assert.equal(player.keyframes, begun, 'no keyframe has come by now: the machine is too slow for this test');
  assert.equal(waiting.video?.framesDecoded ?? 0, 0);
  const { video } = await viewer.waitPlaying(BROADCAST);
  assert.ok(player.keyframes > begun);
  assert.equal(video.keyFramesDecoded, 1);
  assert.equal(await keptStarts(server), kept);
  await player.end();
  await end();
});
