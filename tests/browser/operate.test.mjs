// What an operator does with a program: ending a recording, ending a broadcast, removing a file; and a page that listens.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { decode, files, isRunning, probe } from './support/recording.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

scenario('a recording is ended and removed while the broadcast goes on; the broadcaster is kicked; events tell it all', async (stage) => {
  const server = await stage.serve();
  const remove = async (path) => (await fetch(server.url + path, { method: 'DELETE' })).status;
  const listener = await stage.tab('viewer');
  await listener.open('/');
  await listener.page.evaluate(() => {
    const events = window.heard = [];
    const source = new EventSource('/api/events');
    for (const name of ['broadcasts', 'broadcaster-connected', 'broadcaster-disconnected', 'viewers', 'recording']) {
      source.addEventListener(name, ({ type, data }) => events.push({ type, ...JSON.parse(data) }));
    }
  });
  const heard = (name, wanted) => until(`the page hears of ${name}`, async () => {
    const all = await listener.page.evaluate(() => window.heard);
    const found = all.find((event) => event.type === name && wanted(event));
    if (found) return found;
    throw new Error(JSON.stringify(all));
  });
  await heard('broadcasts', ({ broadcasts }) => broadcasts.length === 0);

  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.open({ codec: 'H264', quality: '480' });
  await broadcaster.start();
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  await broadcaster.waitRecording('started');
  const { file } = await heard('recording', ({ state }) => state === 'started');
  await heard('broadcaster-connected', ({ broadcast }) => broadcast === 'lobby/ada');
  await heard('viewers', ({ count }) => count === 1);

  const [growing] = await until('the file grows', async () => {
    const all = await files(server.recordings);
    return all.some(isRunning) && all;
  });
  assert.equal(await remove(`/api/recordings/${growing}`), 409, 'what is being written stays');
  const before = await viewer.received('lobby/ada');
  assert.equal(await remove('/api/broadcasts/lobby/ada/recording'), 204);
  assert.equal(await remove('/api/broadcasts/lobby/ada/recording'), 409);
  await heard('recording', (event) => event.state === 'finished' && event.file === file);
  await broadcaster.waitRecording('finished');
  assert.ok((await probe(server.recordings, file)).video.packets > 0);
  assert.deepEqual((await decode(server.recordings, file)).complaints, []);
  await until('pictures go on', async () => (await viewer.received('lobby/ada')).video.framesDecoded > before.video.framesDecoded + 30);
  const [live] = await server.api('/api/broadcasts');
  assert.equal(live.recording, false);
  assert.deepEqual(await server.children('ffmpeg'), []);

  assert.equal(await remove(`/api/recordings/${file}`), 204);
  assert.equal(await remove(`/api/recordings/${file}`), 404);
  assert.deepEqual(await files(server.recordings), []);

  assert.equal(await remove('/api/broadcasts/lobby/ada'), 204);
  await heard('broadcaster-disconnected', ({ reason }) => reason === 'kicked');
  await broadcaster.tab.waitSession('publisher', 'has ended', ({ state }) => state === 'ended');
  await until('the page says why', () => broadcaster.tab.page.$eval('[data-testid="problem"]', ({ dataset, textContent }) => dataset.code === 'unauthorized' && /ended by an operator/.test(textContent)));
  await viewer.waitWaiting();
  assert.equal(await remove('/api/broadcasts/lobby/ada'), 404, 'it did not come back by itself');
});
