// `make minute`: a minute of 1280x720 at 30 frames a second with sound, watched by two Chromium viewers, or by VIEWERS where
// the machine can decode for more, and by eight of str0m. Run it on a machine that does nothing else.

import assert from 'node:assert/strict';
import { median } from './support/marks.mjs';
import { playMinute } from './support/minute.mjs';
import { scenario } from './support/scenario.mjs';

const viewers = Number(process.env.VIEWERS ?? 2);
/** The contract's bound. */
const APART_MAX_S = 0.05;

scenario(`a minute of 1280x720 at 30 frames a second for ${viewers} viewers in Chromium and eight of str0m: no freeze, nothing lost, every frame recorded, sound and picture in step`,
  async (stage) => {
    const apart_s = median(await playMinute(stage, { span_ms: 60_000, viewers, crowd: 8 }));
    assert.ok(Math.abs(apart_s) < APART_MAX_S, `${Math.round(apart_s * 1000)} ms apart`);
  }, { within_s: 600 });
