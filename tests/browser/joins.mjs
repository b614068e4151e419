// `make joins`: how long a late viewer waits for its first frame: 20 joins of Chromium, from `subscribe` to the first
// decoded frame. Run it on a machine that does nothing else.

import { availableParallelism, loadavg } from 'node:os';
import { Broadcaster } from './support/broadcaster.mjs';
import { timeJoin } from './support/raw.mjs';
import { Stage, closeBrowsers } from './support/stage.mjs';
import { until } from './support/until.mjs';

const JOINS = Number(process.argv[2] ?? 20);
const CODEC = process.argv[3] ?? 'H264';
const AIM_MS = 200;

const stage = new Stage(console.log);
try {
  await stage.serve('--record', 'off');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.open({ codec: CODEC });
  await broadcaster.start();
  await until('the broadcast runs', async () => (await broadcaster.sent()).video.framesSent > 100);
  const viewer = await stage.tab('viewer');
  await viewer.openBlank();
  const load = () => `load ${loadavg()[0].toFixed(1)} on ${availableParallelism()} cores`;
  console.log(`${JOINS} late joins, ${CODEC}, ${load()}`);
  const joins = [];
  for (let join = 1; join <= JOINS; join += 1) {
    joins.push(await viewer.page.evaluate(timeJoin, { room: 'lobby', user: 'ada', within_ms: 10_000 }));
    // The server asks for a keyframe at most once in 500 ms; joins of different people do not wait for each other's.
    const { keyFramesEncoded } = (await broadcaster.sent()).video;
    const now = Date.now();
    await until('the last join is forgotten', async () => Date.now() - now > 1000 && (await broadcaster.sent()).video.keyFramesEncoded >= keyFramesEncoded);
  }
  for (const [name, title] of [['negotiated_ms', 'answer sent'], ['decoded_ms', 'first frame decoded'], ['shown_ms', 'first frame shown']]) {
    const sorted = joins.map((times) => times[name]).sort((a, b) => a - b);
    const median = (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
    console.log(`${title.padEnd(20)} min ${sorted[0].toFixed(0)} ms, median ${median.toFixed(0)} ms, max ${sorted.at(-1).toFixed(0)} ms`);
    if (name === 'decoded_ms' && median >= AIM_MS) {
      console.log(`the aim is a median under ${AIM_MS} ms (${load()})`);
      process.exitCode = 1;
    }
  }
} catch (error) {
  console.error(await stage.story());
  throw error;
} finally {
  await stage.clear();
  await closeBrowsers();
}
