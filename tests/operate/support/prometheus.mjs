// Prometheus: a real one with a configuration of ours, its storage in a directory of its own.
//
// Invariant: it is dead when this process is, and its directory goes with it.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../browser/support/until.mjs';

const STARTS_MAX = 5;

export class Prometheus {
  #url;
  #child = null;
  #directory;
  #log = '';
  #ended = false;

  /** Starts one. It takes no port 0, so a free one is looked for, and another if it was taken meanwhile. */
  static async start(configuration) {
    for (let tries = 1; ; tries += 1) {
      const prometheus = new Prometheus();
      try {
        await prometheus.#start(configuration, await freePort());
        return prometheus;
      } catch (error) {
        await prometheus.clear();
        if (tries === STARTS_MAX) throw error;
      }
    }
  }

  async #start(configuration, port) {
    this.#url = `http://127.0.0.1:${port}`;
    this.#directory = await mkdtemp(join(tmpdir(), 'onair-prometheus-'));
    const file = join(this.#directory, 'prometheus.yml');
    await writeFile(file, configuration);
    const child = spawn('prometheus', [
      `--config.file=${file}`, `--web.listen-address=127.0.0.1:${port}`, `--storage.tsdb.path=${join(this.#directory, 'data')}`,
      '--log.level=warn',
    ], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('error', (error) => { this.#log += error.message; this.#ended = true; });
    child.once('exit', () => { this.#ended = true; process.off('exit', kill); });
    child.stderr.setEncoding('utf8').on('data', (text) => { this.#log += text; });
    await until('Prometheus is ready', async () => {
      if (this.#ended) throw Object.assign(new Error(`Prometheus (installed by scripts/need test) ended:\n${this.#log}`), { hopeless: true });
      return (await fetch(`${this.#url}/-/ready`)).ok;
    });
  }

  /** The result of an instant query: [{ metric, value: [time_s, text] }]. Throws what Prometheus finds wrong with it. */
  async query(expression) {
    const { result } = await this.#api(`query?${new URLSearchParams({ query: expression })}`);
    return result;
  }

  /** All rules of its files: [{ name, state, health, lastError, … }]. */
  async rules() {
    return (await this.#api('rules')).groups.flatMap(({ rules }) => rules);
  }

  /** What it scrapes: [{ health, lastError, scrapeUrl }]. */
  async targets() {
    return (await this.#api('targets')).activeTargets;
  }

  async #api(path) {
    const { status, data, error } = await (await fetch(`${this.#url}/api/v1/${path}`)).json();
    if (status !== 'success') throw new Error(error);
    return data;
  }

  async clear() {
    if (this.#child?.pid && !this.#ended) {
      const gone = new Promise((resolve) => { this.#child.once('exit', resolve); });
      this.#child.kill('SIGKILL');
      await gone;
    }
    if (this.#directory) await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}
