// Server: the real binary in a directory of its own, on ports of its own.
//
// Invariant: a server that was started is dead when this process is; it is ended by its process id and in no other way.

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { access, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './until.mjs';

const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../../..');
const BINARY = resolve(process.env.ONAIR_BIN ?? join(REPOSITORY, process.env.CARGO_TARGET_DIR ?? 'target', 'debug/onair'));
const LOG_FILTER = process.env.ONAIR_TEST_LOG ?? 'info';
const START_WITHIN_MS = 20_000;
/** The contract's bound on a clean stop. */
const STOP_WITHIN_MS = 10_000;

const running = new Set();
process.once('exit', () => { for (const child of running) child.kill('SIGKILL'); });
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

export class Server {
  /** http://127.0.0.1:PORT, or https:// with a certificate */
  url = null;
  /** The UDP port of all media. */
  udpPort = null;
  #directory;
  #args;
  #httpHost;
  #udpHost;
  #recordings;
  #child = null;
  #exited = null;
  #starts = 0;

  constructor(directory, args, { httpHost, udpHost, recordings }) {
    this.#directory = directory;
    this.#recordings = recordings ?? join(directory, 'recordings');
    this.#args = args;
    this.#httpHost = httpHost;
    this.#udpHost = udpHost;
  }

  /**
   * Starts one with `args` beside those for its addresses and directories. `udpHost` 0.0.0.0 makes it advertise the
   * addresses of this machine's interfaces, as it does by default. IPv6 addresses stand in brackets. `recordings` is
   * where it records; by default a directory that goes with the server.
   */
  static async start(args = [], { httpHost = '127.0.0.1', udpHost = '127.0.0.1', recordings } = {}) {
    await access(BINARY).catch(() => { throw new Error(`there is no ${BINARY}: cargo build, or set ONAIR_BIN`); });
    const server = new Server(await mkdtemp(join(tmpdir(), 'onair-browser-')), args, { httpHost, udpHost, recordings });
    await server.start();
    return server;
  }

  /** Where it runs: relative paths of its flags lead here. */
  get directory() { return this.#directory; }
  get recordings() { return this.#recordings; }
  get pid() { return this.#child?.pid ?? null; }

  /** Starts it: the first time on any free ports, later on those it had. */
  async start() {
    const httpPort = this.url ? new URL(this.url).port : 0;
    const child = spawn(BINARY, [
      '--http', `${this.#httpHost}:${httpPort}`, '--udp', `${this.#udpHost}:${this.udpPort ?? 0}`,
      '--record-dir', this.recordings, '--record-min-free', '64MiB', '--log', LOG_FILTER, ...this.#args,
    ], { cwd: this.#directory, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
    running.add(child);
    this.#child = child;
    this.#exited = new Promise((done) => {
      child.once('error', (error) => done({ error }));
      child.once('exit', (code, signal) => {
        running.delete(child);
        done({ code, signal });
      });
    });
    child.stderr.pipe(createWriteStream(join(this.#directory, `log.${++this.#starts}`)));
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text) => { printed += text; });
    let dead = null;
    this.#exited.then((end) => { dead = end; });
    await until('the server listens', () => {
      if (dead) throw Object.assign(new Error(`the server ended at its start: ${JSON.stringify(dead)}`), { hopeless: true });
      const http = /^listening (https?:\/\/\S+)$/m.exec(printed);
      const udp = /^listening udp \S+:(\d+)$/m.exec(printed);
      if (!http || !udp) return false;
      this.url = http[1].replace(/\/$/, '');
      this.udpPort = Number(udp[1]);
      return true;
    }, { within_ms: START_WITHIN_MS, every_ms: 20 });
  }

  /** SIGTERM, as a service manager ends it. Resolves with { code, signal, took_ms }; throws when it takes longer than promised. */
  async stop() {
    const began = performance.now();
    this.#child.kill('SIGTERM');
    const end = await Promise.race([this.#exited, until('the server ends after SIGTERM', () => false, { within_ms: STOP_WITHIN_MS }).catch((error) => ({ error }))]);
    if (end.error) throw end.error;
    return { ...end, took_ms: performance.now() - began };
  }

  /** SIGKILL. */
  async kill() {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** SIGKILL for it and its ffmpegs at one moment, as a power cut ends them: none may tidy up after the other. */
  async killWithChildren() {
    this.#child.kill('SIGSTOP');
    for (const pid of await this.children('ffmpeg')) process.kill(pid, 'SIGKILL');
    await this.kill();
  }

  /** The process ids of this server's own children of that name: { ffmpeg } while it records. */
  async children(name) {
    const found = [];
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
      // pid (comm) state ppid …: the name may hold spaces and brackets, so the last bracket ends it.
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      const comm = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
      if (parent === this.pid && comm === name) found.push(Number(entry));
    }
    return found;
  }

  async api(path) {
    const response = await fetch(this.url + path);
    if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
    return response.json();
  }

  /** The value of one counter or gauge of /metrics; labels as they are written there. */
  async metric(name) {
    return (await this.metrics()).get(name) ?? null;
  }

  /** All of /metrics: a Map of values by their names, with labels as they are written there. */
  async metrics() {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
  }

  /** The end of each of its logs. */
  async log(lines = 80) {
    let text = '';
    for (let start = 1; start <= this.#starts; start += 1) {
      const all = (await readFile(join(this.#directory, `log.${start}`), 'utf8').catch(() => '')).trimEnd().split('\n');
      text += `--- server log, start ${start}${all.length > lines ? `, last ${lines} of ${all.length} lines` : ''}\n${all.slice(-lines).join('\n')}\n`;
    }
    return text;
  }

  /** Ends it for good and removes its directory. */
  async clear() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.kill();
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }
}
