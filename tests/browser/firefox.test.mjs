// Firefox, which has no H.264 here: a viewer that cannot play every codec, and a broadcaster of another make.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { finishedOnes, probe } from './support/recording.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

const SMALL = { quality: '480' };

scenario('Firefox watches a room of VP8 and goes on playing when another broadcaster comes and goes', async (stage) => {
  await stage.serveEverywhere('--record', 'off');
  const ada = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const bob = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'bob');
  const viewer = new Viewer(await stage.tab('firefox'));
  await ada.open({ codec: 'VP8', ...SMALL });
  await ada.start();
  await viewer.open('lobby');
  await viewer.waitPlaying('lobby/ada');

  await bob.open({ codec: 'VP8', ...SMALL });
  await bob.start();
  await viewer.waitTiles(['lobby/ada', 'lobby/bob']);
  await viewer.waitPlaying('lobby/bob');
  await viewer.waitPlaying('lobby/ada');

  await bob.stop();
  await viewer.waitTiles(['lobby/ada']);
  await viewer.waitPlaying('lobby/ada');
  await ada.stop();
  await viewer.waitWaiting();
});

scenario('Firefox says that it cannot play H.264, and plays the sound', async (stage) => {
  await stage.serveEverywhere('--record', 'off');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('firefox'));
  await broadcaster.open({ codec: 'H264', ...SMALL });
  await broadcaster.start();
  await viewer.open('lobby', 'ada');
  await viewer.tab.waitText('tile-message', /cannot play the video of lobby\/ada/);
  await viewer.waitPlaying('lobby/ada', { video: false });
  assert.equal((await viewer.tab.session('viewer')).state, 'connected');
  await broadcaster.stop();
  await viewer.waitWaiting();

  // The same name in a codec that it can play: the picture comes, the complaint goes.
  await broadcaster.open({ codec: 'VP8', ...SMALL });
  await broadcaster.start();
  await viewer.waitPlaying('lobby/ada');
  await until('nothing stands over the picture', async () => (await viewer.received('lobby/ada')).message === '');
});

scenario('with RSA certificates Chromium and Firefox broadcast, and each watches the other', async (stage) => {
  await stage.serveEverywhere('--record', 'off');
  const tabs = [await stage.tab('broadcaster'), await stage.tab('firefox')];
  const broadcasters = tabs.map((tab, index) => new Broadcaster(tab, 'lobby', ['ada', 'bob'][index]));
  for (const broadcaster of broadcasters) {
    await broadcaster.tab.useRsa();
    await broadcaster.open({ codec: 'VP8', ...SMALL });
    assert.ok(await broadcaster.tab.page.evaluate(() => window.rsaCertificate));
    await broadcaster.start();
    assert.ok(await broadcaster.tab.page.evaluate(() => window.onair.publisher.pc.hasRsa));
  }
  for (const [kind, id] of [['viewer', 'bob'], ['firefox', 'ada']]) {
    const viewer = new Viewer(await stage.tab(kind));
    await viewer.tab.useRsa();
    // The list first: a viewer connects as soon as its page is there.
    await viewer.tab.open('/');
    assert.ok(await viewer.tab.page.evaluate(() => window.rsaCertificate));
    await viewer.tab.page.evaluate((route) => { location.hash = route; }, `/watch/lobby/${id}`);
    await viewer.waitPlaying(`lobby/${id}`);
    assert.ok(await viewer.tab.page.evaluate(() => window.onair.viewer.pc.hasRsa));
  }
});

scenario('Firefox broadcasts VP8; Chromium and Firefox watch; it is recorded', async (stage) => {
  const server = await stage.serveEverywhere();
  const broadcaster = new Broadcaster(await stage.tab('firefox'), 'lobby', 'ada');
  const viewers = [new Viewer(await stage.tab('viewer')), new Viewer(await stage.tab('firefox'))];
  await viewers[0].open('lobby', 'ada');
  await viewers[0].waitWaiting();
  await broadcaster.open({ codec: 'VP8', ...SMALL });
  await broadcaster.start();
  await viewers[1].open('lobby', 'ada');
  for (const viewer of viewers) {
    const { video } = await viewer.waitPlaying('lobby/ada');
    assert.equal(video.codec, 'video/VP8');
  }
  await broadcaster.waitRecording('started');
  await broadcaster.stop();
  for (const viewer of viewers) await viewer.waitWaiting();
  const [path] = await finishedOnes(server, 1);
  const { video, audio } = await probe(server.recordings, path);
  assert.deepEqual([video.codec, audio.codec], ['h264', 'opus']);
});
