// A new FFmpeg in the recorder: its files are whole where they lie, at once, and AV1 and segments are recorded as well.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after } from 'node:test';
import { decode, finishedOnes, probe } from '../browser/support/recording.mjs';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { cleanup } from './support/datachannel.mjs';
import { H264, OPUS, PICTURE, Program, TONE, ffmpegOfPyPI } from './support/program.mjs';

after(cleanup);

/** The kinds of the boxes on the top level of an MP4 file. */
function boxes(bytes) {
  const kinds = [];
  for (let at = 0; at + 8 <= bytes.length;) {
    const small = bytes.readUInt32BE(at);
    const size = small === 1 ? Number(bytes.readBigUInt64BE(at + 8)) : small;
    kinds.push(bytes.toString('latin1', at + 4, at + 8));
    if (size < 8) break;
    at += size;
  }
  return kinds;
}

scenario('FFmpeg 9 records into files that need no copy', async (stage) => {
  const ffmpeg = await ffmpegOfPyPI();
  const server = await stage.serve('--ffmpeg', ffmpeg, '--record-segment', '3s');
  const args = ['-hide_banner', '-loglevel', 'warning', ...PICTURE, ...TONE, ...H264, ...OPUS, '-f', 'whip', `${server.url}/whip/lobby/encoder`];
  const encoder = new Program(ffmpeg, args);
  const started = await until('two files are finished', async () => {
    const files = await server.api('/api/recordings');
    return files.filter(({ path }) => !path.endsWith('.part.mp4')).length >= 2 && files;
  });
  assert.ok(started.length >= 2);
  await encoder.end({ signal: 'SIGINT' });
  await until('it has left', async () => (await server.api('/api/broadcasts')).length === 0);
  const growing = ({ path }) => path.endsWith('.part.mp4');
  const paths = await until('all files are finished', async () => {
    const files = await server.api('/api/recordings');
    return !files.some(growing) && files.map(({ path }) => path);
  });
  for (const path of paths) {
    const kinds = boxes(await readFile(join(server.recordings, path)));
    assert.deepEqual([kinds[0], kinds.at(-1)], ['ftyp', 'moov'], `${path}: ${kinds}`);
    assert.ok(!kinds.includes('moof'), `${path}: ${kinds}`);
    const { video, audio } = await probe(server.recordings, path);
    assert.deepEqual([video.codec, audio.codec], ['h264', 'opus']);
    const { complaints, frames } = await decode(server.recordings, path);
    assert.deepEqual(complaints, []);
    assert.equal(frames, video.packets);
  }
  assert.ok((await finishedOnes(server, paths.length)).length === paths.length);
});
