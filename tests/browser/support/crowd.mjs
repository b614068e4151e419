// Crowd: str0m viewers beside those in browsers, in a process of their own (examples/viewers.rs).
//
// Invariant: a crowd that was started is gone when this process is.

import { spawn } from 'node:child_process';
import { access } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../../..');
const VIEWERS = resolve(process.env.ONAIR_VIEWERS ?? join(REPOSITORY, process.env.CARGO_TARGET_DIR ?? 'target', 'debug/examples/viewers'));

export class Crowd {
  #child;
  #lines;
  #complaints = '';

  constructor(child) {
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text) => { this.#complaints += text; });
    child.stdin.on('error', () => { /* it has ended, which the next reading tells */ });
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    child.once('exit', () => process.removeListener('exit', end));
  }

  /** Lets `count` viewers watch `id` ("room/user") of the server at `url`; resolves when all see the picture. */
  static async start(url, id, count) {
    await access(VIEWERS).catch(() => { throw new Error(`there is no ${VIEWERS}: cargo build --example viewers, or set ONAIR_VIEWERS`); });
    const crowd = new Crowd(spawn(VIEWERS, [new URL(url).host, id, String(count)], { stdio: 'pipe' }));
    await crowd.#read();
    return crowd;
  }

  /** What each has received since this was last asked: [{ packets, lost, frames, freezes, longest_gap_ms }]. */
  async take() {
    this.#child.stdin.write('\n');
    return (await this.#read()).viewers;
  }

  /** They leave. */
  end() {
    this.#child.stdin.end();
  }

  async #read() {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the str0m viewers have ended: ${this.#complaints}`);
    return JSON.parse(value);
  }
}
