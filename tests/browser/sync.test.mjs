// Sound and picture stay in step in the recording: a flash and a beep of one moment are one moment in the file.

import assert from 'node:assert/strict';
import { finishedOnes } from './support/recording.mjs';
import { beeps, flashes } from './support/marks.mjs';
import { deleteResource, flashAndBeep } from './support/raw.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';

/** The contract's bound. What the page itself is off (a frame of the canvas, the sound card's buffer) is in it. */
const APART_MAX_S = 0.05;
const MARKS = 8;

for (const codec of ['H264', 'VP8']) {
  scenario(`${codec}: a flash and its beep are at most 50 ms apart in the file`, async (stage) => {
    const server = await stage.serve();
    const publisher = await stage.tab('broadcaster');
    await publisher.openBlank();
    await publisher.page.evaluate(flashAndBeep, { path: '/whip/lobby/ada', codec });
    await until('the flashes are recorded', () => publisher.page.evaluate((marks) => window.whip.marks >= marks, MARKS), { within_ms: 60_000 });
    assert.equal(await publisher.page.evaluate(deleteResource, 'whip'), 200);
    const [path] = await finishedOnes(server, 1);
    const [seen, heard] = await Promise.all([flashes(server.recordings, path), beeps(server.recordings, path)]);
    const apart = seen.map((flash_s) => {
      const beep_s = heard.reduce((nearest, beep) => (Math.abs(beep - flash_s) < Math.abs(nearest - flash_s) ? beep : nearest), Infinity);
      return flash_s - beep_s;
    }).sort((a, b) => a - b);
    const median_s = apart[Math.floor(apart.length / 2)];
    stage.note(`picture after sound, in ms: ${apart.map((value_s) => Math.round(value_s * 1000)).join(' ')}`);
    assert.ok(seen.length >= MARKS - 2 && heard.length >= MARKS - 2, `${seen.length} flashes, ${heard.length} beeps`);
    assert.ok(Math.abs(median_s) <= APART_MAX_S, `${Math.round(median_s * 1000)} ms apart`);
  });
}
