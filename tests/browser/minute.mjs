// `make minute`: a minute of 1280x720 at 30 frames a second with sound, watched by two Chromium viewers. Run it on a
// machine that does nothing else.

import { playMinute } from './support/minute.mjs';
import { scenario } from './support/scenario.mjs';

scenario('a minute of 1280x720 at 30 frames a second: no freeze, nothing lost, every frame recorded', (stage) => playMinute(stage, { span_ms: 60_000 }), { within_s: 600 });
