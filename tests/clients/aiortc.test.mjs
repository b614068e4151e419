// aiortc publishes VP8 and Opus, and plays and decodes them.

import assert from 'node:assert/strict';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Program } from './support/program.mjs';

scenario('aiortc publishes and plays VP8 and Opus', async (stage) => {
  const server = await stage.serve('--record', 'off', '--codecs', 'vp8,h264');
  const publisher = Program.python('aiortc_client.py', 'publish', `${server.url}/whip/lobby/python`);
  await until('aiortc is live', async () => {
    publisher.latest('offer');
    const [live] = await server.api('/api/broadcasts');
    return live?.id === 'lobby/python' && live.tracks.map(({ codec }) => codec).join() === 'opus,vp8';
  });
  const player = Program.python('aiortc_client.py', 'play', `${server.url}/whep/lobby/python`);
  await until('aiortc decodes', () => {
    const { connection, frames } = player.latest('frames');
    if (connection === 'connected' && frames.video > 30 && frames.audio > 50) return frames;
    throw new Error(JSON.stringify(frames));
  });
  assert.equal(player.latest('frames').frames.size, '640x480');
  assert.ok(publisher.latest('packets').packets.video > 30);
  // Both end their sessions themselves: nothing is left behind, and nobody had to wait for silence.
  assert.deepEqual(await player.end(), { code: 0, signal: null }, player.errors);
  await until('the player has left', async () => (await server.api('/api/broadcasts'))[0].viewers === 0, { within_ms: 5000 });
  assert.deepEqual(await publisher.end(), { code: 0, signal: null }, publisher.errors);
  await until('the broadcaster has left', async () => (await server.api('/api/broadcasts')).length === 0, { within_ms: 5000 });
});
