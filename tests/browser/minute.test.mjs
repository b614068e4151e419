// The minute of `make minute`, in short and with few viewers. Whether sound and picture are in step is asked by
// sync.test.mjs.

import { playMinute } from './support/minute.mjs';
import { scenario } from './support/scenario.mjs';

scenario('fifteen seconds of 1280x720 at 30 frames a second: no freeze, nothing lost, every frame recorded', (stage) => playMinute(stage, { span_ms: 15_000, crowd: 2 }), { within_s: 240 });
