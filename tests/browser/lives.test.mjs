// The main story: one broadcaster, an early and a late viewer, an end, a return, and the files that remain.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { assertPlaysInPage } from './support/replay.mjs';
import { decode, finishedOnes, probe } from './support/recording.mjs';
import { scenario } from './support/scenario.mjs';
import { assertSmooth } from './support/smoothness.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

scenario('H.264 with sound: an early and a late viewer, an end, a return, two recordings', async (stage) => {
  const server = await stage.serve();
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const early = new Viewer(await stage.tab('viewer'));
  const late = new Viewer(await stage.tab('viewer'));

  await early.open('lobby', 'ada');
  await early.waitWaiting();

  await broadcaster.open({ codec: 'H264' });
  await broadcaster.start();
  await early.waitPlaying('lobby/ada');
  await early.tab.waitText('watch-state', /^Live$/);
  await broadcaster.waitRecording('started');

  // The late viewer's picture stands long before the next keyframe that the encoder would send by itself.
  const clicked = performance.now();
  await late.open('lobby', 'ada');
  await until('the late viewer sees a frame', async () => (await late.received('lobby/ada'))?.video?.framesDecoded > 0, { every_ms: 20 });
  stage.note(`late viewer: ${(performance.now() - clicked).toFixed(0)} ms from the address to the first frame, page load included`);
  await late.waitPlaying('lobby/ada');

  await assertSmooth(stage, broadcaster, [{ viewer: early, id: 'lobby/ada' }, { viewer: late, id: 'lobby/ada' }]);
  for (const viewer of [early, late]) {
    const { video, audio } = await viewer.received('lobby/ada');
    assert.equal(video.codec, 'video/H264');
    assert.equal(audio.codec, 'audio/opus');
    await viewer.tab.waitText('stat-latency', /^\d+(\.\d+)? ms$/);
    await viewer.tab.waitText('stat-codec', /H\.264.*Opus|Opus.*H\.264/);
  }
  await broadcaster.tab.waitText('viewers', /^2 viewers$/);
  await broadcaster.tab.waitText('recording', /^Recording$/);

  const sent = [];
  sent.push(await broadcaster.stopCounted());
  for (const viewer of [early, late]) await viewer.waitWaiting();

  // The same tabs, the same sessions of the viewers: the broadcast returns and is played again.
  await broadcaster.start();
  await Promise.all([early, late].map((viewer) => viewer.waitPlaying('lobby/ada')));
  await broadcaster.waitRecording('started');
  sent.push(await broadcaster.stopCounted());
  for (const viewer of [early, late]) await viewer.waitWaiting();

  const [first] = await assertRecorded(stage, server, sent);
  await assertPlaysInPage(late.tab, first);
});

scenario('a broadcast starts sharp: 1280x720 from its first seconds', async (stage) => {
  await stage.serve('--record', 'off');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitWaiting();
  await broadcaster.open({ codec: 'VP8' });
  await broadcaster.start();
  const seen = await until('the picture is 1280 wide', async () => {
    const { element } = await viewer.received('lobby/ada');
    return element.width === 1280 && element;
  });
  assert.equal(seen.height, 720);
  assert.ok(seen.currentTime < 4, `only after ${seen.currentTime} s of playing`);
});

/**
 * Every frame of every broadcast stands in its file. The broadcaster's first frame is a keyframe and begins the file; the
 * count is taken when nothing is in flight any more, so it is exact.
 */
async function assertRecorded(stage, server, sent) {
  const paths = await finishedOnes(server, sent.length);
  const probes = await Promise.all(paths.map((path) => probe(server.recordings, path)));
  for (const [index, { video, audio, duration_s }] of probes.entries()) {
    stage.note(`${paths[index]}: ${duration_s.toFixed(2)} s, ${video.packets} frames of ${video.width}x${video.height}, ${audio.packets} packets of sound`);
    assert.equal(video.codec, 'h264');
    assert.equal(audio.codec, 'opus');
    const { complaints, frames } = await decode(server.recordings, paths[index]);
    assert.deepEqual(complaints, []);
    assert.equal(frames, video.packets, 'each frame decodes');
    assert.ok(Math.abs(video.duration_s - audio.duration_s) < 1, `picture ${video.duration_s} s, sound ${audio.duration_s} s`);
  }
  const recorded = probes.reduce((sum, { video }) => sum + video.packets, 0);
  assert.equal(recorded, sent.reduce((sum, count) => sum + count, 0), `frames sent: ${sent.join(' + ')}`);
  return paths;
}
