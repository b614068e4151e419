// `make minute`: a minute of 1280x720 at 30 frames a second with sound, watched by two Chromium viewers, or by VIEWERS where
// the machine can decode for more. Run it on a machine that does nothing else.

import { playMinute } from './support/minute.mjs';
import { scenario } from './support/scenario.mjs';

const viewers = Number(process.env.VIEWERS ?? 2);

scenario(`a minute of 1280x720 at 30 frames a second for ${viewers} viewers: no freeze, nothing lost, every frame recorded`,
  (stage) => playMinute(stage, { span_ms: 60_000, viewers }), { within_s: 600 });
