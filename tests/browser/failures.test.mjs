// What breaks: the server, its ffmpeg, its orderly end. Live pictures, recordings and pages come through it.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { assertPlaysInPage } from './support/replay.mjs';
import { decode, files, finishedOnes, isRunning, probe } from './support/recording.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

/** The contract: a file plays up to its last two seconds, whoever was killed. */
const LOST_AT_MOST_S = 2;
const SMALL = { quality: '480' };
// What a browser itself reports when a server is not there.
const NO_SERVER = [/WebSocket connection to/, /ERR_CONNECTION_REFUSED/, /Failed to load resource/, /NetworkError|Failed to fetch/];

scenario('the server is killed while it records: the file plays, a restart finishes it, the pages come back', async (stage) => {
  const { server, broadcaster, viewer } = await recording(stage);
  const sentThen = await broadcaster.sent();
  await server.killWithChildren();
  const [path] = await files(server.recordings);
  assert.ok(isRunning(path), path);
  const cut = await assertPlaysUpTo(stage, server, path, sentThen);

  for (const { tab, role, chip } of [{ tab: broadcaster.tab, role: 'publisher', chip: 'publish-state' }, { tab: viewer.tab, role: 'viewer', chip: 'watch-state' }]) {
    await tab.waitSession(role, 'is reconnecting', ({ state }) => state === 'reconnecting');
    await tab.waitText(chip, /Server gone; reconnecting|Reconnecting/);
  }

  await server.start();
  await broadcaster.onAir();
  await viewer.waitPlaying('lobby/ada');
  await until('the restarted server has finished the file', async () => (await files(server.recordings)).includes(path.replace('.part.mp4', '.mp4')));
  await broadcaster.waitRecording('started');
  await broadcaster.stop();
  const paths = await finishedOnes(server, 2);
  const whole = await probe(server.recordings, paths[0]);
  assert.ok(whole.video.packets >= cut.video.packets, `${whole.video.packets} frames of ${cut.video.packets} are left`);
  await assertPlaysInPage(viewer.tab, paths[0]);
});

scenario('ffmpeg is killed while it records: the picture goes on, the broadcaster is told, a new file begins', async (stage) => {
  const { server, broadcaster, viewer } = await recording(stage);
  const [ffmpeg] = await server.children('ffmpeg');
  const before = await viewer.received('lobby/ada');
  const firstFile = (await broadcaster.tab.session('publisher')).recording.file;
  const sentThen = await broadcaster.sent();
  process.kill(ffmpeg, 'SIGKILL');

  await until('the broadcaster is told', async () => (await broadcaster.tab.log('publisher')).some((line) => /^Recording failed/.test(line)));
  await broadcaster.tab.waitSession('publisher', 'hears of a new file', ({ recording }) => recording.state === 'started' && recording.file !== firstFile);
  await broadcaster.tab.waitText('recording', /^Recording$/);
  const after = await viewer.waitPlaying('lobby/ada');
  assert.ok(after.video.framesDecoded > before.video.framesDecoded);
  assert.equal(after.video.ssrc, before.video.ssrc, 'the viewer kept its stream');
  assert.equal(after.video.packetsLost, before.video.packetsLost);
  assert.equal((await viewer.tab.log('viewer')).filter((line) => /Disconnected|left|starts anew/.test(line)).length, 0);

  // The first file is made whole while the broadcast goes on.
  const first = await until('the first file is finished', async () => (await files(server.recordings)).find((path) => !isRunning(path)));
  await assertPlaysUpTo(stage, server, first, sentThen);
  await recordMore(broadcaster);
  await broadcaster.stop();
  const paths = await finishedOnes(server, 2);
  const second = await probe(server.recordings, paths.find((path) => path !== first));
  assert.ok(second.video.packets > 30, `${second.video.packets} frames in the second file`);
  await assertPlaysInPage(viewer.tab, first);
});

scenario('SIGTERM: a clean end, whole recordings, pages that say so and come back', async (stage) => {
  const { server, broadcaster, viewer } = await recording(stage);
  const { code, signal, took_ms } = await server.stop();
  stage.note(`ended ${took_ms.toFixed(0)} ms after SIGTERM`);
  assert.deepEqual([code, signal], [0, null]);
  const paths = await files(server.recordings);
  assert.equal(paths.filter(isRunning).length, 0, paths.join(', '));
  const file = await probe(server.recordings, paths[0]);
  assert.deepEqual([file.video.codec, file.audio.codec], ['h264', 'opus']);
  assert.deepEqual((await decode(server.recordings, paths[0])).complaints, []);

  await viewer.tab.waitText('watch-state', /Server gone; reconnecting/);
  await broadcaster.tab.waitText('publish-state', /Server gone; reconnecting/);
  assert.ok((await viewer.tab.log('viewer')).some((line) => /shutting down/.test(line)), 'the viewer was told why');

  await server.start();
  await broadcaster.onAir();
  await viewer.waitPlaying('lobby/ada');
  await broadcaster.stop();
});

/** A broadcast that is watched and has been recorded for some seconds. */
async function recording(stage) {
  const server = await stage.serve();
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  for (const { tab } of [broadcaster, viewer]) tab.expectErrors(...NO_SERVER);
  await broadcaster.open({ codec: 'H264', ...SMALL });
  await broadcaster.start();
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  await broadcaster.waitRecording('started');
  await recordMore(broadcaster);
  return { server, broadcaster, viewer };
}

async function recordMore(broadcaster) {
  const first = (await broadcaster.sent()).video.framesSent;
  await until('six seconds more were sent', async () => (await broadcaster.sent()).video.framesSent > first + 120);
}

/** The file decodes without a complaint, and lacks at most the frames of the last two seconds before `sentThen` was read. */
async function assertPlaysUpTo(stage, server, path, { video, camera_fps }) {
  const file = await probe(server.recordings, path);
  const { complaints, frames } = await decode(server.recordings, path);
  stage.note(`${path}: ${frames} frames of ${video.framesSent}`);
  assert.deepEqual(complaints, []);
  assert.equal(file.video.codec, 'h264');
  assert.equal(file.audio.codec, 'opus');
  assert.ok(frames >= video.framesSent - LOST_AT_MOST_S * camera_fps, `${frames} frames of ${video.framesSent} at ${camera_fps} in a second`);
  return file;
}
