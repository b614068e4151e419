// Sound and picture stay in step in the recording: a flash and a beep of one moment are one moment in the file.
//
// A machine that is short of CPU parts the two before they are sent: the page draws late, its sound waits for the encoder.
// So a take that is off is repeated. A recorder that is off is so in each take.

import assert from 'node:assert/strict';
import { finishedOnes } from './support/recording.mjs';
import { markDevices } from './support/marked.mjs';
import { median, pictureAfterSound } from './support/marks.mjs';
import { deleteResource, publishByWhip } from './support/raw.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';

/** The contract's bound. What the page itself is off (a frame of the canvas, the sound card's buffer) is in it. */
const APART_MAX_S = 0.05;
const TAKES_MAX = 4;
const MARKS = 6;

for (const codec of ['H264', 'VP8']) {
  scenario(`${codec}: a flash and its beep are at most 50 ms apart in the file`, async (stage) => {
    const server = await stage.serve();
    const publisher = await stage.tab('broadcaster');
    for (let take = 1; ; take += 1) {
      const apart_s = await record(stage, server, publisher, codec, take);
      if (Math.abs(apart_s) <= APART_MAX_S) break;
      assert.ok(take < TAKES_MAX, `${Math.round(apart_s * 1000)} ms apart, in the last of ${take} takes`);
    }
  });
}

/** Publishes some marks; resolves with how much later the picture is than the sound, in the middle of all marks. */
async function record(stage, server, publisher, codec, take) {
  await publisher.openBlank();
  await publisher.page.evaluate(markDevices, { width: 640, height: 360 });
  await publisher.page.evaluate(publishByWhip, { path: '/whip/lobby/ada', codec });
  await until('the flashes are recorded', () => publisher.page.evaluate((marks) => window.marks >= marks, MARKS), { within_ms: 60_000 });
  assert.equal(await publisher.page.evaluate(deleteResource, 'whip'), 200);
  const path = (await finishedOnes(server, take)).at(-1);
  const apart = await pictureAfterSound(server.recordings, path);
  assert.ok(apart.length >= MARKS - 2, `${apart.length} flashes`);
  stage.note(`picture after sound, in ms: ${apart.map((value_s) => Math.round(value_s * 1000)).join(' ')}`);
  return median(apart);
}
