// Recording and its disk, seen by everyone at once: the publisher's page, viewers, the list, events and the files.

import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Broadcaster } from './support/broadcaster.mjs';
import { Crowd } from './support/crowd.mjs';
import { Listener } from './support/listener.mjs';
import { decode, files, finishedOnes, isRunning, probe } from './support/recording.mjs';
import { assertPlaysInPage } from './support/replay.mjs';
import { scenario } from './support/scenario.mjs';
import { assertArrived, watch } from './support/smoothness.mjs';
import { observe, until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

const SMALL = { quality: '480' };
/** Longer than the server needs to see that a disk does not answer: a look each 3 s, given up after 5 s. */
const HANGS_MS = 12_000;
const ANSWERS_WITHIN_MS = 1000;
const RECORDS_AGAIN_WITHIN_MS = 30_000;
const CAUSE = /disk does not answer/;
const TRIES_AGAIN = /disk does not answer\. The server tries again by itself\.$/;

scenario('the disk hangs: live viewers lose nothing, everybody is told why nothing is recorded, and recording goes on by itself', async (stage) => {
  const disk = await stage.serveOntoDisk();
  const { server } = stage;
  // With a token, whatever it is, the list has a button to record.
  const listener = await Listener.open(await stage.tab('viewer'), '/?token=any-token-0123456789');
  // The list of recordings waits for the disk.
  listener.tab.expectErrors(/status of 503/);
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer', { small: true }));
  await broadcaster.open({ codec: 'H264', ...SMALL });
  await broadcaster.start();
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  const crowd = await Crowd.start(server.url, 'lobby/ada', 10);
  const first = await listener.heard('recording', ({ state }) => state === 'started');
  await sendMore(broadcaster);
  await broadcaster.tab.page.evaluate(() => { window.firstConnection = window.onair.publisher.pc; });

  disk.hang();
  const [span] = await Promise.all([
    watch(broadcaster, [{ viewer, id: 'lobby/ada' }], { span_ms: HANGS_MS, crowd }),
    assertPrompt(stage, server),
    assertToldWhy(stage, broadcaster, listener),
  ]);
  assert.equal((await row(server)).recording, false);
  disk.goOn();
  const mended = performance.now();
  const labels = await watchLabels(broadcaster.tab, 'record');
  await until('it is recorded again', async () => (await row(server)).recording, { within_ms: RECORDS_AGAIN_WITHIN_MS });
  stage.note(`recorded again ${((performance.now() - mended) / 1000).toFixed(1)} s after the disk was back`);
  assert.equal((await row(server)).recording_error, undefined);
  const second = await listener.heard('recording', ({ state, file }) => state === 'started' && file !== first.file);
  await broadcaster.tab.waitText('recording', /^Recording$/);
  await broadcaster.tab.waitText('recording-words', /^Recording to \d{8}-\d{6}(-\d+)?\.(part\.)?mp4$/);
  assert.deepEqual(await labels(), ['Stop recording'], 'the end of the first file does not end the recording');
  await listener.tab.waitText('recording-error', null);

  assertArrived(stage, span, { loss_max: 0 });
  if (!span.starved) assert.deepEqual(span.viewers.filter(({ freezes }) => freezes > 0), [], 'a freeze while the machine kept up');
  assert.ok(await broadcaster.tab.page.evaluate(() => window.onair.publisher.pc === window.firstConnection), 'the broadcaster stays connected');
  await sendMore(broadcaster);
  crowd.end();
  await broadcaster.stop();
  await finishedOnes(server, 2);
  for (const { file } of [first, second]) await assertFinished(stage, server, listener, file);
  await assertPlaysInPage(viewer.tab, first.file);
  await assertPlaysInPage(viewer.tab, second.file);
});

scenario('a broadcast begins while the disk hangs: its page says so, takes requests, and is recorded when the disk is back', async (stage) => {
  const disk = await stage.serveOntoDisk();
  const { server } = stage;
  const listener = await Listener.open(await stage.tab('viewer'));
  listener.tab.expectErrors(/status of 503/);
  disk.hang();
  await until('the server sees it', async () => await server.metric('onair_recording_disk_ready') === 0);
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const { tab } = broadcaster;
  await broadcaster.open({ codec: 'H264', ...SMALL });
  await broadcaster.start();
  await tab.waitText('recording-words', TRIES_AGAIN);
  await delayAnswers(tab);
  for (const [label, recorded] of [['Stop recording', false], ['Record', true]]) {
    assert.equal(await tab.text('record'), label);
    await tab.click('record');
    await until('the row follows', async () => CAUSE.test((await row(server)).recording_error ?? '') === recorded);
    await tab.waitText('record', recorded ? /^Stop recording$/ : /^Record$/);
    await tab.waitText('recording-problem', null);
  }
  await tab.waitText('recording-words', TRIES_AGAIN);
  disk.goOn();
  await broadcaster.waitRecording('started');
  await tab.waitText('recording', /^Recording$/);
  await sendMore(broadcaster);
  await broadcaster.stop();
  const [path] = await finishedOnes(server, 1);
  await assertFinished(stage, server, listener, path);
});

scenario('with --record off the first request begins to record, and --on-recording runs for the file', async (stage) => {
  const server = await stage.serve('--record', 'off', '--on-recording', 'printf "%s\\n" "$ONAIR_PATH" >> handed-over');
  const listener = await Listener.open(await stage.tab('viewer'));
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const { tab } = broadcaster;
  await broadcaster.open({ codec: 'H264', ...SMALL });
  await broadcaster.start();
  await broadcaster.waitRecording('off');
  await tab.waitText('recording-words', /not recorded/);
  assert.deepEqual(await files(server.recordings), []);

  await tab.waitText('record', /^Record$/);
  await tab.click('record');
  await broadcaster.waitRecording('started');
  await tab.waitText('recording', /^Recording$/);
  await sendMore(broadcaster);
  await tab.waitText('record', /^Stop recording$/);
  await tab.click('record');
  await broadcaster.waitRecording('finished');
  await tab.waitText('publish-state', /^On air$/);

  const [path] = await finishedOnes(server, 1);
  await assertFinished(stage, server, listener, path);
  const handedOver = await until('the command ran', () => readFile(join(server.directory, 'handed-over'), 'utf8'));
  assert.equal(handedOver, `${path}\n`);
  await broadcaster.stop();
  assert.deepEqual(await files(server.recordings), [path]);
  await assertPlaysInPage(listener.tab, path);
});

async function row(server) {
  const [broadcast, ...others] = await server.api('/api/broadcasts');
  assert.deepEqual([broadcast?.id, others.length], ['lobby/ada', 0]);
  return broadcast;
}

async function sendMore(broadcaster) {
  const first = (await broadcaster.sent()).video.framesSent;
  await until('five seconds more were sent', async () => (await broadcaster.sent()).video.framesSent > first + 100);
}

/** What does not need the disk answers while it hangs. */
async function assertPrompt(stage, server) {
  const slowest_ms = { '/healthz': 0, '/api/broadcasts': 0 };
  let asked = 0;
  for (const end = performance.now() + HANGS_MS; performance.now() < end; asked += 1) {
    for (const path of Object.keys(slowest_ms)) {
      const began = performance.now();
      const response = await fetch(server.url + path);
      await response.arrayBuffer();
      assert.equal(response.status, 200, path);
      slowest_ms[path] = Math.max(slowest_ms[path], performance.now() - began);
    }
    await observe(100);
  }
  for (const [path, took_ms] of Object.entries(slowest_ms)) {
    stage.note(`${path}: the slowest of ${asked} answers took ${took_ms.toFixed(1)} ms while the disk hung`);
    assert.ok(took_ms < ANSWERS_WITHIN_MS, `${path} took ${took_ms.toFixed(0)} ms`);
  }
}

/** The API, the publisher's page, the list, events and the log name the cause. */
async function assertToldWhy(stage, broadcaster, listener) {
  const { server } = stage;
  const began = performance.now();
  await until('the row says why it is not recorded', async () => {
    const { recording, recording_error: error } = await row(server);
    if (!recording && CAUSE.test(error)) return true;
    throw new Error(JSON.stringify({ recording, error }));
  });
  stage.note(`the row says why ${((performance.now() - began) / 1000).toFixed(1)} s after the disk hung`);
  await listener.heard('recording', ({ state, error }) => state === 'failed' && CAUSE.test(error));
  await broadcaster.tab.waitText('recording', /^Recording failed$/);
  await broadcaster.tab.waitText('recording-words', TRIES_AGAIN);
  await broadcaster.tab.waitText('publish-state', /^On air$/);
  await broadcaster.tab.waitText('record', /^Stop recording$/);
  await listener.tab.waitText('recording-error', CAUSE);
  await listener.tab.waitText('record-broadcast', /^Stop recording$/);
  await listener.tab.waitText('recent', CAUSE);
  assert.match(await server.log(), /recording failed.*disk does not answer/);
}

/** From now on what the WebSocket tells comes before the answer to the request that it came of. */
async function delayAnswers(tab) {
  await tab.page.evaluate(() => {
    const plain = window.fetch;
    window.fetch = async (...request) => {
      const answer = await plain(...request);
      await new Promise((resolve) => { setTimeout(resolve, 300); });
      return answer;
    };
  });
}

/** Returns a function that tells which texts a button has shown from now on. */
async function watchLabels(tab, testid) {
  const labels = await tab.page.evaluateHandle((name) => {
    const button = document.querySelector(`[data-testid="${name}"]`);
    const seen = [button.textContent];
    new MutationObserver(() => seen.push(button.textContent)).observe(button, { childList: true, subtree: true });
    return seen;
  }, testid);
  return async () => [...new Set(await labels.jsonValue())];
}

/** The file decodes, and the event told what it holds. */
async function assertFinished(stage, server, listener, path) {
  assert.ok(!isRunning(path), path);
  const { duration_s, size_bytes } = await listener.heard('recording', ({ state, file }) => state === 'finished' && file === path);
  const file = await probe(server.recordings, path);
  const { complaints, frames } = await decode(server.recordings, path);
  stage.note(`${path}: ${frames} frames, told ${duration_s.toFixed(1)} s and ${size_bytes} bytes`);
  assert.deepEqual(complaints, []);
  assert.deepEqual([file.video.codec, file.audio.codec], ['h264', 'opus']);
  assert.equal(frames, file.video.packets);
  assert.ok(frames > 90, `${frames} frames`);
  assert.equal(size_bytes, (await stat(join(server.recordings, path))).size);
  assert.ok(Math.abs(duration_s - file.duration_s) < 0.1, `told ${duration_s} s, it is ${file.duration_s} s`);
}
