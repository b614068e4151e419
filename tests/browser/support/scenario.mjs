// Scenario: one test on a stage of its own. When it fails it tells what its tabs and its server saw.
//
// Invariant: when a scenario passes, no tab of it had an error that the scenario did not expect.

import { after, test } from 'node:test';
import { Stage, closeBrowsers } from './stage.mjs';

const SCENARIO_WITHIN_S = 150;

after(closeBrowsers);

/** `body` gets a Stage; `within_s` is for the whole of it. */
export function scenario(name, body, { within_s = SCENARIO_WITHIN_S } = {}) {
  test(name, async (t) => {
    const stage = new Stage((line) => t.diagnostic(line));
    let timer;
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the scenario is not over after ${within_s} s`)), within_s * 1000);
    });
    const playing = (async () => {
      await body(stage);
      stage.expectNoErrors();
    })();
    playing.catch(() => {}); // after a timeout nobody listens any more
    try {
      await Promise.race([playing, timeout]);
    } catch (error) {
      process.stderr.write(`\n=== ${name}: ${error.message}\n${await stage.story()}\n`);
      throw error;
    } finally {
      clearTimeout(timer);
      await stage.clear();
    }
  });
}
