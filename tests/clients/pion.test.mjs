// Pion publishes VP8 or H.264 with Opus, and plays them; what it has written down decodes.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { promisify } from 'node:util';
import { decode } from '../browser/support/recording.mjs';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { AUD, H264, OPUS, PICTURE, Program, QUIET, TONE, VP8, ffmpegOfPyPI } from './support/program.mjs';

const SECONDS = 4;
const { ONAIR_PION } = process.env;
if (!ONAIR_PION) throw new Error('ONAIR_PION names no program: make test-clients builds and names it');

let directory;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'onair-pion-'));
  const ffmpeg = await ffmpegOfPyPI();
  const make = (source, encoding, file) => {
    // As fast as it can, not as a camera's.
    const input = source.filter((word) => word !== '-re');
    return promisify(execFile)(ffmpeg, [...QUIET, ...input, ...encoding, '-t', String(SECONDS), join(directory, file)]);
  };
  await make(PICTURE, VP8, 'picture.ivf');
  await make(PICTURE, [...H264, ...AUD], 'picture.h264');
  // A page of Ogg for each packet, which is what Pion takes for one.
  await make(TONE, [...OPUS, '-page_duration', '20000'], 'sound.ogg');
});
after(() => rm(directory, { recursive: true, force: true }));

for (const [codec, extension] of [['vp8', 'ivf'], ['h264', 'h264']]) {
  scenario(`Pion publishes and plays ${codec} and Opus`, async (stage) => {
    // It pairs no address of its own with 127.0.0.1.
    const server = await stage.serveEverywhere('--record', 'off');
    const publisher = Program.json(ONAIR_PION, 'publish', `${server.url}/whip/lobby/pion`, join(directory, `picture.${extension}`), join(directory, 'sound.ogg'));
    await until('it is live', async () => {
      publisher.latest('offer');
      const [live] = await server.api('/api/broadcasts');
      return live?.id === 'lobby/pion' && live.tracks.map((track) => track.codec).join() === `opus,${codec}`;
    });
    const player = Program.json(ONAIR_PION, 'play', `${server.url}/whep/lobby/pion`, join(directory, `played.${extension}`));
    await until('media flows', () => {
      const said = player.latest('counts');
      if (said.connection === 'connected' && said.counts.video > 60 && said.counts.audio > 100) return true;
      throw new Error(JSON.stringify(said));
    });
    assert.deepEqual(await player.end(), { code: 0, signal: null }, player.errors);
    await until('the player has left', async () => (await server.api('/api/broadcasts'))[0].viewers === 0, { within_ms: 5000 });
    assert.deepEqual(await publisher.end(), { code: 0, signal: null }, publisher.errors);
    await until('the broadcaster has left', async () => (await server.api('/api/broadcasts')).length === 0, { within_ms: 5000 });

    const { complaints, frames } = await decode(directory, `played.${extension}`);
    assert.deepEqual(complaints, []);
    assert.ok(frames > 60, `${frames} pictures decode`);
  });
}
