// libdatachannel, as OBS uses it, publishes H.264 and Opus, and plays them.
//
// Its packetiser puts each parameter set into a packet of its own, and it makes no keyframe when asked.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { decode, finishedOnes, probe } from '../browser/support/recording.mjs';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Viewer } from '../browser/support/viewer.mjs';
import { Player, Publisher, cleanup } from './support/datachannel.mjs';
import { H264_WITH_B_FRAMES } from './support/program.mjs';

after(cleanup);

const OFFER_OF_OBS = new URL('../data/sdp/publish/obs-libdatachannel.sdp', import.meta.url);
/** What an offer says of its m-lines, but for names and numbers that are made up. */
const shape = (sdp) => sdp.split(/\r?\n/).filter((line) => /^([mc]=|a=(group|mid|sendonly|rtcp-mux|rtpmap|fmtp|rtcp-fb|candidate))/.test(line));

/** NAL units (RFC 6184 §5.2). */
const [SPS, PPS] = [7, 8];

const AUTH = `
[[token]]
token = "secret-0123456789"
can = ["publish"]
rooms = ["lobby"]

[[anonymous]]
can = ["watch"]
`;

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

/** Players one after the other, until `isGood` is true of one; each has begun with a keyframe. */
async function playUntil(server, what, isGood) {
  await until(what, async () => {
    const player = new Player();
    await player.play(`${server.url}/whep/lobby/obs`);
    await until('a keyframe comes', () => player.keyframes > 0);
    assert.deepEqual(player.firstUnits.slice(0, 2), [SPS, PPS], 'it begins with the parameter sets');
    assert.equal(await player.end(), 200);
    return isGood();
  });
}

scenario('whoever comes late to separate parameter sets gets them first, live or from the past', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const publisher = new Publisher();
  await publisher.publish(`${server.url}/whip/lobby/obs`);
  await until('it is live', async () => (await server.api('/api/broadcasts')).length === 1);
  const kept = () => server.metric('onair_kept_starts_total');
  let before = await kept();
  // Which of the two it is depends on when the next keyframe comes, a second apart.
  await playUntil(server, 'one begins live', async () => {
    const [was, is] = [before, await kept()];
    before = is;
    return was === is;
  });
  await playUntil(server, 'one begins in the past', async () => await kept() > before);
  await publisher.end();
});

scenario('sound and picture of a source without sender reports are recorded, and play in step', async (stage) => {
  const server = await stage.serve();
  const publisher = new Publisher();
  await publisher.publish(`${server.url}/whip/lobby/obs`, { reports: false });
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'obs', { muted: true });
  await viewer.waitPlaying('lobby/obs');
  // By the server's reports, which place both on its own clock by when they arrived.
  await until('Chromium plays both at one time', async () => {
    const { audio, video } = await viewer.received('lobby/obs');
    const apart_ms = Math.abs(audio.estimatedPlayoutTimestamp - video.estimatedPlayoutTimestamp);
    if (apart_ms < 150) return true;
    throw new Error(`${apart_ms} ms apart`);
  });
  assert.equal(await publisher.end(), 200);
  const [path] = await finishedOnes(server, 1);
  const { video, audio } = await probe(server.recordings, path);
  assert.deepEqual([video.width, video.height], [640, 360]);
  const ends = [video, audio].map(({ start_s, duration_s }) => start_s + duration_s);
  assert.ok(Math.abs(ends[0] - ends[1]) < 0.5, `they end at ${ends} s`);
  assert.deepEqual((await decode(server.recordings, path)).complaints, []);
});

scenario('OBS publishes with a token, by a relative Location, and is told of ICE servers', async (stage) => {
  const directory = await mkdtemp(join(tmpdir(), 'onair-clients-'));
  after(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, 'auth.toml'), AUTH);
  const server = await stage.serve('--record', 'off', '--auth', join(directory, 'auth.toml'), '--stun', 'stun:127.0.0.1:3478');
  const url = `${server.url}/whip/lobby/obs`;
  for (const token of [undefined, 'wrong-0123456789']) {
    await assert.rejects(new Publisher().publish(url, { token }), /^Error: 401: /);
  }
  const publisher = new Publisher();
  await publisher.publish(url, { token: 'secret-0123456789' });
  assert.match(publisher.told.location, /^\/whip\/lobby\/obs\/[^/]+$/);
  assert.equal(publisher.told.link, '<stun:127.0.0.1:3478>; rel="ice-server"');
  assert.equal(publisher.told.type, 'application/sdp');
  assert.deepEqual(shape(publisher.offer), shape(await readFile(OFFER_OF_OBS, 'utf8')));
  const live = () => server.api('/api/broadcasts');
  await until('it is live', async () => (await live())[0]?.id === 'lobby/obs');
  assert.equal(await publisher.end(), 200);
  await until('it has left', async () => (await live()).length === 0, { within_ms: 5000 });
});

scenario('an encoder with B-frames is told of', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const publisher = new Publisher();
  await publisher.publish(`${server.url}/whip/lobby/obs`, { encoding: H264_WITH_B_FRAMES });
  await until('the API tells', async () => (await server.api('/api/broadcasts'))[0].b_frames === true);
  assert.match(await server.log(), /B-frames/);
  await publisher.end();
});
