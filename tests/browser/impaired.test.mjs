// `make impaired`, in short.

import { scenario } from './support/scenario.mjs';
import { watchImpaired } from './support/impaired.mjs';

scenario('twenty seconds of VP8 over a path with loss, delay and reordering: repaired, hardly a freeze, sound and picture in step',
  (stage) => watchImpaired(stage, { codec: 'VP8', span_ms: 20_000 }), { within_s: 240 });
