// werift publishes and plays VP8 and Opus.

import assert from 'node:assert/strict';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Player, Publisher } from './support/werift.mjs';

scenario('werift publishes and plays VP8 and Opus', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const publisher = new Publisher();
  await publisher.publish(`${server.url}/whip/lobby/node`);
  await until('it is live', async () => {
    const [live] = await server.api('/api/broadcasts');
    return live?.id === 'lobby/node' && live.tracks.map(({ codec }) => codec).join() === 'opus,vp8';
  });
  const player = new Player();
  await player.play(`${server.url}/whep/lobby/node`);
  await until('media flows', () => {
    const seen = { state: player.state, keyframes: player.keyframes, ...player.received };
    if (seen.video > 60 && seen.audio > 60 && seen.keyframes > 1) return seen;
    throw new Error(JSON.stringify(seen));
  });
  stage.note(`SRTP profile ${player.srtpProfile}`);
  assert.equal(await player.end(), 200);
  assert.equal(await publisher.end(), 200);
  await until('it has left', async () => (await server.api('/api/broadcasts')).length === 0, { within_ms: 5000 });
});
