// Disk: a real file system (FUSE, by bindfs) that hangs when it is told to, as a network mount does without its server.
//
// Invariant: it answers again and is unmounted when it is cleared or this process ends, whatever happens before.

import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.mjs';

export class Disk {
  #directory;
  #child;
  #exited;
  #complaints = '';
  #release = () => this.#unmount();

  constructor(directory) {
    this.#directory = directory;
  }

  /** Mounts an empty one. */
  static async mount() {
    if (process.getuid() !== 0) throw new Error('bindfs needs root: run this test as root, or in a container');
    await access('/dev/fuse').catch(() => { throw new Error('bindfs needs /dev/fuse, which this machine does not have'); });
    const disk = new Disk(await mkdtemp(join(tmpdir(), 'onair-browser-disk-')));
    try {
      await disk.#mount();
    } catch (error) {
      await disk.clear();
      throw error;
    }
    return disk;
  }

  /** Where it is mounted. A call to it blocks a thread of this process while it hangs. */
  get path() { return join(this.#directory, 'disk'); }

  /** From now on each call to it hangs. */
  hang() { this.#child.kill('SIGSTOP'); }

  /** It answers again. */
  goOn() { this.#child?.kill('SIGCONT'); }

  async clear() {
    process.removeListener('exit', this.#release);
    this.#unmount();
    await this.#exited;
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #mount() {
    const behind = join(this.#directory, 'behind');
    await mkdir(behind);
    await mkdir(this.path);
    process.once('exit', this.#release);
    // Without time-outs the kernel answers nothing from its memory.
    this.#child = spawn('bindfs', ['-f', '-o', 'attr_timeout=0,entry_timeout=0,negative_timeout=0', behind, this.path], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr.setEncoding('utf8').on('data', (text) => { this.#complaints += text; });
    let ended = null;
    this.#exited = new Promise((done) => {
      this.#child.once('error', done);
      this.#child.once('exit', (code, signal) => done(new Error(`bindfs ended (${signal ?? code}): ${this.#complaints}`)));
    });
    this.#exited.then((error) => { ended = error; });
    await until('bindfs is mounted', () => {
      if (ended) throw Object.assign(ended, { hopeless: true });
      return this.#isMounted();
    }, { every_ms: 20 });
  }

  #unmount() {
    this.goOn();
    // Lazily: what is still open on it does not keep it.
    while (this.#isMounted() && spawnSync('umount', ['--lazy', this.path]).status === 0);
    this.#child?.kill('SIGKILL');
  }

  /** Asks the table of mounts, not the file system, which may hang. */
  #isMounted() {
    return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').some((line) => line.split(' ')[4] === this.path);
  }
}
