// FFmpeg's whip muxer publishes H.264 and Opus; libdatachannel plays it, and stays while FFmpeg leaves and returns.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { decode, finishedOnes, probe } from '../browser/support/recording.mjs';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Player, cleanup } from './support/datachannel.mjs';
import { H264, OPUS, PICTURE, Program, TONE, ffmpegOfPyPI } from './support/program.mjs';

after(cleanup);

async function publish(server, ...flags) {
  const args = ['-hide_banner', '-loglevel', 'warning', ...PICTURE, ...TONE, ...H264, ...OPUS, '-f', 'whip', ...flags, `${server.url}/whip/lobby/encoder`];
  return new Program(await ffmpegOfPyPI(), args);
}

const live = (server) => until('FFmpeg is live', async () => (await server.api('/api/broadcasts')).find(({ id }) => id === 'lobby/encoder'));

for (const flags of [[], ['-whip_flags', 'dtls_active']]) {
  scenario(`FFmpeg publishes H.264 and Opus ${flags.join(' ')}`, async (stage) => {
    const server = await stage.serve();
    const encoder = await publish(server, ...flags);
    const { tracks } = await live(server);
    assert.deepEqual(tracks, [{ kind: 'audio', codec: 'opus' }, { kind: 'video', codec: 'h264' }]);
    await until('it is recorded', async () => (await live(server)).recording);
    const player = new Player();
    await player.play(`${server.url}/whep/lobby/encoder`);
    await until('media flows', () => player.count('video') > 60 && player.count('audio') > 60 && player.keyframes > 0);
    assert.equal(await player.end(), 200);

    await encoder.end({ signal: 'SIGINT' });
    // Its DELETE came: nobody had to wait for silence.
    await until('it has left', async () => (await server.api('/api/broadcasts')).length === 0, { within_ms: 5000 });
    const [path] = await finishedOnes(server, 1);
    const { video, audio } = await probe(server.recordings, path);
    assert.deepEqual([video.codec, video.width, audio.codec], ['h264', 640, 'opus']);
    const { complaints, frames } = await decode(server.recordings, path);
    assert.deepEqual(complaints, []);
    assert.equal(frames, video.packets);
  });
}

scenario('a player stays while FFmpeg leaves and returns', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const first = await publish(server, '-whip_flags', 'dtls_active');
  await live(server);
  const player = new Player();
  await player.play(`${server.url}/whep/lobby/encoder`);
  await until('media flows', () => player.count('video') > 30 && player.count('audio') > 30);
  const { lineUp } = player;
  assert.deepEqual([lineUp.audio.length, lineUp.video.length], [1, 1]);
  await first.end({ signal: 'SIGINT' });
  await until('it has left', async () => (await server.api('/api/broadcasts')).length === 0);

  const before = { video: player.count('video'), audio: player.count('audio'), keyframes: player.keyframes };
  const second = await publish(server, '-whip_flags', 'dtls_active');
  await live(server);
  await until('media flows again', () => player.count('video') > before.video + 30 && player.count('audio') > before.audio + 30 && player.keyframes > before.keyframes);
  assert.deepEqual(player.lineUp, lineUp, 'no SSRC is new, for there was no renegotiation');
  assert.equal(await player.end(), 200);
  await second.end({ signal: 'SIGINT' });
});
