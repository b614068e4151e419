// What an operator does with a program: ending a recording, ending a broadcast, removing a file; and a page that listens.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broadcaster } from './support/broadcaster.mjs';
import { Listener } from './support/listener.mjs';
import { decode, files, isRunning, probe } from './support/recording.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

scenario('a recording is ended and removed while the broadcast goes on; the broadcaster is kicked; events tell it all', async (stage) => {
  const server = await stage.serve();
  const remove = async (path) => (await fetch(server.url + path, { method: 'DELETE' })).status;
  const listener = await Listener.open(await stage.tab('viewer'));
  await listener.heard('broadcasts', ({ broadcasts }) => broadcasts.length === 0);

  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.open({ codec: 'H264', quality: '480' });
  await broadcaster.start();
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  await broadcaster.waitRecording('started');
  const { file } = await listener.heard('recording', ({ state }) => state === 'started');
  await listener.heard('broadcaster-connected', ({ broadcast }) => broadcast === 'lobby/ada');
  await listener.heard('viewers', ({ count }) => count === 1);

  const [growing] = await until('the file grows', async () => {
    const all = await files(server.recordings);
    return all.some(isRunning) && all;
  });
  assert.equal(await remove(`/api/recordings/${growing}`), 409, 'what is being written stays');
  const before = await viewer.received('lobby/ada');
  assert.equal(await remove('/api/broadcasts/lobby/ada/recording'), 204);
  assert.equal(await remove('/api/broadcasts/lobby/ada/recording'), 409);
  await listener.heard('recording', (event) => event.state === 'finished' && event.file === file);
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
  await listener.heard('broadcaster-disconnected', ({ reason }) => reason === 'kicked');
  await broadcaster.tab.waitSession('publisher', 'has ended', ({ state }) => state === 'ended');
  await until('the page says why', () => broadcaster.tab.page.$eval('[data-testid="problem"]', ({ dataset, textContent }) => dataset.code === 'unauthorized' && /ended by an operator/.test(textContent)));
  await viewer.waitWaiting();
  assert.equal(await remove('/api/broadcasts/lobby/ada'), 404, 'it did not come back by itself');
});

const AUTH = `
[[token]]
token = "camera-0123456789ab"
can = ["publish", "watch", "recordings"]
[[token]]
token = "operator-0123456789"
can = ["watch", "operate"]
`;

scenario('a broadcaster starts and stops the recording on the page, as often as wanted', async (stage) => {
  const server = await stage.serve('--record', 'stage/*');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const { tab } = broadcaster;
  await broadcaster.open({ codec: 'H264', quality: '480' });
  assert.equal(await tab.text('record'), null, 'nothing to record yet');
  await broadcaster.start();
  await broadcaster.waitRecording('off');
  await tab.waitText('recording-words', /not recorded/);
  const recorded = [];
  for (let round = 0; round < 2; round += 1) {
    await tab.waitText('record', /^Record$/);
    await tab.click('record');
    const { recording } = await broadcaster.waitRecording('started');
    recorded.push(recording.file);
    await tab.waitText('recording', /^Recording$/);
    await tab.waitText('recording-words', /^Recording to \d{8}-\d{6}(-\d+)?\.(part\.)?mp4$/);
    const before = (await broadcaster.sent()).video.framesSent;
    await until('something is recorded', async () => (await broadcaster.sent()).video.framesSent > before + 60);
    await tab.waitText('record', /^Stop recording$/);
    await tab.click('record');
    await broadcaster.waitRecording('finished');
    await tab.waitText('recording-words', /^Recorded: \d{8}-\d{6}(-\d+)?\.mp4/);
  }
  assert.notEqual(recorded[0], recorded[1]);
  assert.equal((await files(server.recordings)).length, 2);
  assert.equal((await broadcaster.tab.session('publisher')).state, 'connected', 'the broadcast goes on');
  await tab.waitText('publish-state', /^On air$/);
});

scenario('who may not record is told so in plain words, and an operator records from the list', async (stage) => {
  const directory = await mkdtemp(join(tmpdir(), 'onair-browser-auth-'));
  try {
    await writeFile(join(directory, 'auth.toml'), AUTH);
    await stage.serve('--record', 'stage/*', '--auth', join(directory, 'auth.toml'));
    await recordWithTokens(stage);
  } finally {
    await rm(directory, { recursive: true });
  }
});

async function recordWithTokens(stage) {
  const camera = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  camera.tab.expectErrors(/status of 403/);
  await camera.tab.open('/publish?token=camera-0123456789ab&room=lobby&user=ada&codec=H264&quality=480');
  await camera.start();
  await camera.tab.click('record');
  await camera.tab.waitText('recording-problem', /Your token does not allow you to start a recording/);
  await camera.tab.waitText('publish-state', /^On air$/);
  await camera.tab.waitText('record', /^Record$/);

  const operator = await stage.tab('viewer');
  await operator.open('/?token=operator-0123456789');
  await operator.waitText('record-broadcast', /^Record$/);
  await operator.click('record-broadcast');
  await camera.waitRecording('started');
  await camera.tab.waitText('record', /^Stop recording$/);
  await operator.waitText('record-broadcast', /^Stop recording$/);
  await operator.click('record-broadcast');
  await camera.waitRecording('finished');
  await camera.tab.waitText('record', /^Record$/);
}
