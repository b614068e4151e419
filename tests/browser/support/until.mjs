// Until: waiting for a condition with a deadline, since a loaded machine makes every fixed pause a lie.

export const PATIENCE_MS = 30_000;

/**
 * Asks `probe` again and again until it returns something truthy, and returns that. A probe that throws has not
 * succeeded yet: pages navigate and servers restart while they are asked.
 */
export async function until(what, probe, { within_ms = PATIENCE_MS, every_ms = 100 } = {}) {
  const deadline = performance.now() + within_ms;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      if (error.hopeless) throw error;
      last = error;
    }
    if (performance.now() > deadline) break;
    await pause(every_ms);
  }
  const seen = last instanceof Error ? `${last.name}: ${last.message}` : JSON.stringify(last);
  throw new Error(`${what}: not within ${within_ms / 1000} s; last seen: ${seen}`);
}

/** A span in which something is observed (frames must go on, no freeze may come), never a wait for something. */
export function observe(duration_ms) {
  return pause(duration_ms);
}

function pause(duration_ms) {
  return new Promise((resolve) => { setTimeout(resolve, duration_ms); });
}
