// Turn: a real coturn, started as deploy/coturn.sh starts it for an onair on the same address.
//
// Invariant: it is dead when this process is, and its directory goes with it.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './until.mjs';

const SCRIPT = resolve(fileURLToPath(import.meta.url), '../../../../deploy/coturn.sh');
const STARTS_MAX = 5;

export class Turn {
  /** IP:PORT, for UDP and TCP. */
  address;
  #child;
  #directory;
  #log = '';
  #ended = false;

  /** Starts one with this secret, on `ip`. Port 0 is no choice for coturn, so a free one is looked for, and another if it was taken. */
  static async start(secret, ip = '127.0.0.1') {
    for (let tries = 1; ; tries += 1) {
      const turn = new Turn();
      try {
        await turn.#start(secret, ip, await freePort(ip));
        return turn;
      } catch (error) {
        await turn.clear();
        if (tries === STARTS_MAX) throw error;
      }
    }
  }

  async #start(secret, ip, port) {
    this.address = `${ip}:${port}`;
    this.#directory = await mkdtemp(join(tmpdir(), 'onair-browser-turn-'));
    const file = (name) => join(this.#directory, name);
    const options = [
      '--no-tls', '--no-dtls', `--listening-ip=${ip}`, `--relay-ip=${ip}`, `--listening-port=${port}`,
      // It would relay to no loopback address otherwise, which is right anywhere but here.
      '--allow-loopback-peers',
      `--pidfile=${file('pid')}`, `--userdb=${file('db')}`, '--verbose',
    ];
    const env = { ...process.env, ONAIR_TURN_SECRET: secret, ONAIR_PUBLIC_IP: ip };
    const child = spawn(SCRIPT, options, { stdio: ['ignore', 'pipe', 'pipe'], env });
    this.#child = child;
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('error', (error) => { this.#log += error.message; this.#ended = true; });
    child.once('exit', () => { this.#ended = true; process.off('exit', kill); });
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { this.#log += text; });
    await until('coturn listens', () => {
      if (this.#ended) throw Object.assign(new Error(`coturn (installed by scripts/need test) ended:\n${this.#log}`), { hopeless: true });
      return /UDP listener opened/.test(this.#log) && /SQLite DB connection success/.test(this.#log);
    }, { every_ms: 50 });
  }

  /** User names to which it gave a relayed address. */
  users() {
    return [...new Set([...this.#log.matchAll(/user <([^>]*)>: incoming packet ALLOCATE processed, success/g)].map(([, user]) => user))];
  }

  get log() { return this.#log; }

  async clear() {
    if (this.#child && !this.#ended && this.#child.pid) {
      const gone = new Promise((resolve) => { this.#child.once('exit', resolve); });
      this.#child.kill('SIGKILL');
      await gone;
    }
    if (this.#directory) await rm(this.#directory, { recursive: true, force: true });
  }
}

/** One on which nobody listens by TCP at this moment. */
async function freePort(ip) {
  const server = createServer();
  await new Promise((resolve) => { server.listen(0, ip, resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}
