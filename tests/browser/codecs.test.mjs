// What may be sent: each codec, sound alone, a picture alone; and what remains of it in the recording.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { decode, finishedOnes, keyframes, probe } from './support/recording.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

// MP4 does not hold VP8: it is encoded anew.
for (const { codec, recorded } of [{ codec: 'VP8', recorded: 'h264' }, { codec: 'VP9', recorded: 'vp9' }]) {
  scenario(`${codec} plays and is recorded as ${recorded}, frame by frame`, async (stage) => {
    const server = await stage.serve();
    const { broadcaster, viewer } = await onAir(stage, { codec });
    const { video } = await viewer.waitPlaying('lobby/ada');
    assert.equal(video.codec, `video/${codec}`);
    await broadcaster.waitRecording('started');
    await recordSome(server, broadcaster);
    const sent = await broadcaster.stopCounted();
    await viewer.waitWaiting();

    const paths = await finishedOnes(server, 1);
    const probes = await Promise.all(paths.map((path) => probe(server.recordings, path)));
    for (const [index, file] of probes.entries()) {
      assert.equal(file.video.codec, recorded);
      assert.equal(file.audio.codec, 'opus');
      assert.deepEqual((await decode(server.recordings, paths[index])).complaints, []);
    }
    assert.equal(probes.reduce((sum, file) => sum + file.video.packets, 0), sent);
  });
}

// By itself Chromium makes a keyframe of H.264 every 20 s: nobody could seek in such a file.
scenario('a recorded broadcast that nobody watches has a keyframe as often as the operator wants', async (stage) => {
  const server = await stage.serve('--record-keyframes', '2s');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.open({ codec: 'H264' });
  await broadcaster.start();
  await broadcaster.waitRecording('started');
  const first = (await broadcaster.sent()).video.framesSent;
  await until('eight seconds are recorded', async () => (await broadcaster.sent()).video.framesSent > first + 240);
  await broadcaster.stop();
  const times = [];
  for (const path of await finishedOnes(server, 1)) times.push(...await keyframes(server.recordings, path));
  const gaps = times.slice(1).map((time, index) => time - times[index]);
  stage.note(`keyframes at ${times.map((time) => time.toFixed(1)).join(', ')} s`);
  assert.ok(times.length >= 4 && Math.max(...gaps) < 3.5, `${times}`);
});

scenario('AV1, which this ffmpeg cannot record, is relayed all the same', async (stage) => {
  const server = await stage.serve();
  const { broadcaster, viewer } = await onAir(stage, { codec: 'AV1', quality: '480' });
  const { video } = await viewer.waitPlaying('lobby/ada');
  assert.equal(video.codec, 'video/AV1');
  const [live] = await server.api('/api/broadcasts');
  if (live.recording) {
    stage.note('this ffmpeg records AV1 (8 or newer)');
  } else {
    await broadcaster.tab.waitText('recording', /^Not recorded$/);
    assert.deepEqual(await server.children('ffmpeg'), []);
  }
  await broadcaster.stop();
});

scenario('sound alone: a tile without picture, a recording without picture; muting silences it', async (stage) => {
  const server = await stage.serve();
  const { broadcaster, viewer } = await onAir(stage, { video: false });
  await viewer.waitPlaying('lobby/ada', { video: false });
  assert.match(await viewer.tab.page.$eval('[data-testid="tile"]', (tile) => tile.textContent), /Sound only/);
  await broadcaster.waitRecording('started');

  // The fake microphone beeps once a second: its energy stops growing when it is muted, while packets go on.
  const energyOf = async () => (await viewer.received('lobby/ada')).audio.totalAudioEnergy;
  const loud = await energyOf();
  await until('beeps are heard', async () => (await energyOf()) > loud + 0.01);
  await broadcaster.tab.click('mute-mic');
  await until('the beeps cease', async () => {
    const before = await viewer.received('lobby/ada');
    const after = await until('two seconds of sound passed', async () => {
      const now = await viewer.received('lobby/ada');
      return now.audio.totalSamplesReceived > before.audio.totalSamplesReceived + 96_000 && now;
    });
    return after.audio.totalAudioEnergy - before.audio.totalAudioEnergy < 0.0001 && after.audio.packetsReceived > before.audio.packetsReceived;
  });
  await broadcaster.tab.click('mute-mic');
  const quiet = await energyOf();
  await until('beeps are heard again', async () => (await energyOf()) > quiet + 0.01);

  await broadcaster.stop();
  await viewer.waitWaiting();
  const [path] = await finishedOnes(server, 1);
  const file = await probe(server.recordings, path);
  assert.equal(file.video, undefined);
  assert.equal(file.audio.codec, 'opus');
  assert.deepEqual((await decode(server.recordings, path)).complaints, []);
});

scenario('a picture alone: no sound to turn off, a recording without sound', async (stage) => {
  const server = await stage.serve();
  const { broadcaster, viewer } = await onAir(stage, { codec: 'H264', audio: false });
  await viewer.waitPlaying('lobby/ada', { audio: false });
  assert.equal(await viewer.tab.text('tile-mute'), null, 'no sound button');
  assert.equal(await broadcaster.tab.text('mute-mic'), null, 'no microphone button');
  await broadcaster.waitRecording('started');
  await recordSome(server, broadcaster);
  const sent = await broadcaster.stopCounted();
  await viewer.waitWaiting();
  const paths = await finishedOnes(server, 1);
  let recorded = 0;
  for (const path of paths) {
    const file = await probe(server.recordings, path);
    assert.equal(file.audio, undefined);
    assert.equal(file.video.codec, 'h264');
    recorded += file.video.packets;
  }
  assert.equal(recorded, sent);
});

async function onAir(stage, options) {
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitWaiting();
  await broadcaster.open(options);
  await broadcaster.start();
  return { broadcaster, viewer };
}

/** Until some seconds of picture are sent. */
async function recordSome(server, broadcaster) {
  const first = (await broadcaster.sent()).video.framesSent;
  await until('some seconds are recorded', async () => (await broadcaster.sent()).video.framesSent > first + 60);
}
