// libdatachannel, as OBS uses it, publishes H.264 and Opus, and plays them.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { decode, finishedOnes, probe } from '../browser/support/recording.mjs';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Player, Publisher, cleanup } from './support/datachannel.mjs';
import { H264_WITH_B_FRAMES } from './support/program.mjs';

after(cleanup);

scenario('libdatachannel publishes and plays H.264 and Opus', async (stage) => {
  const server = await stage.serve();
  const publisher = new Publisher();
  await publisher.publish(`${server.url}/whip/lobby/obs`);
  await until('it is live', async () => {
    const [live] = await server.api('/api/broadcasts');
    return live?.id === 'lobby/obs' && live.tracks.map(({ codec }) => codec).join() === 'opus,h264';
  });
  const player = new Player();
  await player.play(`${server.url}/whep/lobby/obs`);
  await until('media flows', () => {
    const seen = { video: player.count('video'), audio: player.count('audio'), keyframes: player.keyframes };
    if (seen.video > 60 && seen.audio > 60 && seen.keyframes > 1) return seen;
    throw new Error(JSON.stringify(seen));
  });
  assert.equal(player.state, 'connected');
  assert.equal(await player.end(), 200);
  assert.equal(await publisher.end(), 200);
  await until('it has left', async () => (await server.api('/api/broadcasts')).length === 0, { within_ms: 5000 });

  // What was recorded decodes whole: the packets that flowed were pictures.
  const [path] = await finishedOnes(server, 1);
  const { video, audio } = await probe(server.recordings, path);
  assert.deepEqual([video.codec, video.width, audio.codec], ['h264', 640, 'opus']);
  const { complaints, frames } = await decode(server.recordings, path);
  assert.deepEqual(complaints, []);
  assert.equal(frames, video.packets);
});

scenario('an encoder with B-frames is told of', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const publisher = new Publisher();
  await publisher.publish(`${server.url}/whip/lobby/obs`, H264_WITH_B_FRAMES);
  await until('the API tells', async () => (await server.api('/api/broadcasts'))[0].b_frames === true);
  assert.match(await server.log(), /B-frames/);
  await publisher.end();
});
