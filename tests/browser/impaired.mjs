// `make impaired`: five minutes, or SPAN_S seconds, of a broadcast whose viewers in Chromium and Firefox lose 3 % of all
// datagrams each way, and get each other one up to 30 ms late. Run it on a machine that does nothing else.

import { scenario } from './support/scenario.mjs';
import { watchImpaired } from './support/impaired.mjs';

const span_s = Number(process.env.SPAN_S ?? 300);
const within_s = span_s * 4 + 120;

for (const codec of ['VP8', 'VP9']) {
  scenario(`${codec} for ${span_s} s over a bad path: repaired, at most two freezes, sound and picture in step`,
    (stage) => watchImpaired(stage, { codec, span_ms: span_s * 1000 }), { within_s });
}

scenario(`VP8 for ${span_s} s, the broadcaster's path as bad as the viewers'`,
  (stage) => watchImpaired(stage, { codec: 'VP8', span_ms: span_s * 1000, broadcasterToo: true }), { within_s });
