// The minute: 1280x720 at 30 frames a second with sound, viewers in Chromium and a crowd of str0m beside them, watched for
// as long as is asked for; then its recording.

import assert from 'node:assert/strict';
import { Broadcaster } from './broadcaster.mjs';
import { Crowd } from './crowd.mjs';
import { markDevices } from './marked.mjs';
import { pictureAfterSound } from './marks.mjs';
import { decode, finishedOnes, probe } from './recording.mjs';
import { assertPlaysInPage } from './replay.mjs';
import { assertSmooth } from './smoothness.mjs';
import { until } from './until.mjs';
import { Viewer } from './viewer.mjs';

/** Beginnings and ends of the two tracks: a frame and a packet of sound are not the same length. */
const TRACKS_APART_MAX_S = 0.15;

/**
 * `viewers` are in Chromium, `crowd` are of str0m. The first viewer comes before the broadcast, the others later. Resolves
 * with how much later the picture is than the sound in the recording, in seconds, for each moment that bears a mark.
 */
export async function playMinute(stage, { span_ms, crowd: crowdCount, viewers: count = 2 }) {
  const server = await stage.serve();
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.tab.page.evaluateOnNewDocument(markDevices, { width: 1280, height: 720 });
  const viewers = [];
  for (let index = 0; index < count; index += 1) viewers.push(new Viewer(await stage.tab('viewer')));
  await viewers[0].open('lobby', 'ada');
  await viewers[0].waitWaiting();
  await broadcaster.open({ codec: 'H264' });
  await broadcaster.start();
  assert.equal((await broadcaster.sent()).camera_fps, 30);
  for (const viewer of viewers.slice(1)) await viewer.open('lobby', 'ada');
  for (const viewer of viewers) {
    await viewer.waitPlaying('lobby/ada');
    await until('the picture is sharp', async () => (await viewer.received('lobby/ada')).element.width === 1280);
  }

  const crowd = await Crowd.start(server.url, 'lobby/ada', crowdCount);

  const span = await assertSmooth(stage, broadcaster, viewers.map((viewer) => ({ viewer, id: 'lobby/ada' })), { span_ms, crowd });
  crowd.end();
  for (const viewer of viewers) {
    const { element, video, audio } = await viewer.received('lobby/ada');
    assert.deepEqual([element.width, element.height], [1280, 720]);
    assert.deepEqual([video.codec, audio.codec], ['video/H264', 'audio/opus']);
  }
  const sent = await broadcaster.stopCounted();

  const paths = await finishedOnes(server, 1);
  let recorded = 0;
  const apart_s = [];
  for (const path of paths) {
    const { video, audio } = await probe(server.recordings, path);
    recorded += video.packets;
    stage.note(`${path}: ${video.packets} frames in ${video.duration_s.toFixed(2)} s, sound ${audio.duration_s.toFixed(2)} s, picture begins ${Math.round((video.start_s - audio.start_s) * 1000)} ms after sound`);
    assert.deepEqual([video.codec, audio.codec], ['h264', 'opus']);
    assert.deepEqual((await decode(server.recordings, path)).complaints, []);
    assert.ok(Math.abs(video.start_s - audio.start_s) < TRACKS_APART_MAX_S, `the tracks begin ${video.start_s} and ${audio.start_s}`);
    apart_s.push(...await pictureAfterSound(server.recordings, path));
  }
  assert.equal(recorded, sent, 'frames recorded');
  assert.ok(sent >= span.sent);
  stage.note(`picture after sound, in ms: ${apart_s.map((value_s) => Math.round(value_s * 1000)).join(' ')}`);
  assert.ok(apart_s.length >= span_ms / 2500, `${apart_s.length} flashes`);
  await assertPlaysInPage(viewers[0].tab, paths[0]);
  return apart_s;
}
