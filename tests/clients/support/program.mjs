// Program: a client that is a process of its own, and what it said.
//
// Invariant: a program that was started is dead when this process is; it is ended by its process id and in no other way.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
export const PYTHON = here('venv/bin/python');

const running = new Set();
const killAll = () => { for (const child of running) child.kill('SIGKILL'); };
process.once('exit', killAll);
// What a scenario that failed has left would keep the process.
after(killAll);

let found;
/** The FFmpeg that imageio-ffmpeg ships. */
export async function ffmpegOfPyPI() {
  found ??= promisify(execFile)(PYTHON, ['-c', 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())']);
  return (await found).stdout.trim();
}

export const QUIET = ['-hide_banner', '-loglevel', 'error'];

/** What a test picture and a tone are made from, in FFmpeg's words; `seconds` without it: as long as it runs. */
export const PICTURE = ['-re', '-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30'];
export const TONE = ['-re', '-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=48000'];
/** H.264 without B-frames, a keyframe each second. */
export const H264 = ['-c:v', 'libx264', '-profile:v', 'baseline', '-bf', '0', '-g', '30', '-preset', 'ultrafast', '-tune', 'zerolatency', '-b:v', '600k', '-pix_fmt', 'yuv420p'];
/** H.264 as encoders make it that were not told to leave B-frames out. */
export const H264_WITH_B_FRAMES = ['-c:v', 'libx264', '-profile:v', 'main', '-bf', '2', '-g', '30', '-preset', 'superfast', '-b:v', '600k', '-pix_fmt', 'yuv420p'];
/** An access unit delimiter in front of each picture. */
export const AUD = ['-bsf:v', 'h264_metadata=aud=insert'];
/** VP8 with a keyframe each second. */
export const VP8 = ['-c:v', 'libvpx', '-deadline', 'realtime', '-cpu-used', '8', '-b:v', '600k', '-g', '30', '-pix_fmt', 'yuv420p'];
export const OPUS = ['-c:a', 'libopus', '-ar', '48000', '-ac', '2'];

export class Program {
  /** The JSON objects that it said, last one last. */
  said = [];
  #child;
  #errors = '';
  #exited;

  constructor(command, args, { stdin = 'pipe' } = {}) {
    this.#child = spawn(command, args, { stdio: [stdin, 'pipe', 'pipe'] });
    running.add(this.#child);
    this.#exited = once(this.#child, 'exit').then(([code, signal]) => {
      running.delete(this.#child);
      return { code, signal };
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text) => { this.#errors = (this.#errors + text).slice(-4000); });
  }

  static python(script, ...args) {
    return Program.json(PYTHON, here(script), ...args);
  }

  /** One that says JSON objects, one a line. */
  static json(command, ...args) {
    const program = new Program(command, args);
    createInterface({ input: program.stdout }).on('line', (line) => program.said.push(JSON.parse(line)));
    return program;
  }

  get stdout() { return this.#child.stdout; }
  get isRunning() { return running.has(this.#child); }
  /** The end of what it said on standard error. */
  get errors() { return this.#errors; }

  /** The latest of what it said that has `name`; throws when there is none or it has ended by itself. */
  latest(name) {
    if (!this.isRunning) throw Object.assign(new Error(`it has ended: ${this.#errors}`), { hopeless: true });
    const latest = this.said.findLast((object) => name in object);
    if (!latest) throw new Error(`nothing of ${name} yet`);
    return latest;
  }

  /** Ends it the way it likes: by the end of its standard input, or by SIGINT. */
  async end({ signal } = {}) {
    if (signal) this.#child.kill(signal);
    else this.#child.stdin.end();
    return this.#exited;
  }

  async kill() {
    if (this.isRunning) this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
