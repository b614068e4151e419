// Marks: when flashes and beeps are in a recording, in seconds of its own time.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const OUTPUT_MAX_BYTES = 64 * 1024 * 1024;
const BRIGHT = 128;

/** When the light in the picture's upper left eighth goes on. */
async function flashes(directory, path) {
  const { stdout } = await run('ffmpeg', ['-v', 'error', '-nostdin', '-i', join(directory, path), '-an', '-fps_mode', 'passthrough',
    '-vf', 'crop=iw/16:ih/16:iw/32:ih/32,signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-', '-f', 'null', '-'], { maxBuffer: OUTPUT_MAX_BYTES });
  const frames = [...stdout.matchAll(/pts_time:(\S+)\s+lavfi\.signalstats\.YAVG=(\S+)/g)].map(([, time, brightness]) => ({ time_s: Number(time), bright: Number(brightness) > BRIGHT }));
  return frames.filter(({ bright }, index) => bright && index > 0 && !frames[index - 1].bright).map(({ time_s }) => time_s);
}

/** When silence ends. */
async function beeps(directory, path) {
  const { stderr } = await run('ffmpeg', ['-v', 'info', '-nostdin', '-nostats', '-i', join(directory, path), '-vn',
    '-af', 'silencedetect=noise=-30dB:duration=0.2', '-f', 'null', '-'], { maxBuffer: OUTPUT_MAX_BYTES });
  return [...stderr.matchAll(/silence_end: (\S+)/g)].map(([, time]) => Number(time));
}

/** How much later the picture is than the sound, in seconds, for each flash that a recording holds. */
export async function pictureAfterSound(directory, path) {
  const [seen, heard] = await Promise.all([flashes(directory, path), beeps(directory, path)]);
  if (heard.length === 0) throw new Error(`${path}: ${seen.length} flashes, but no beep`);
  return seen.map((flash_s) => {
    const beep_s = heard.reduce((nearest, beep) => (Math.abs(beep - flash_s) < Math.abs(nearest - flash_s) ? beep : nearest), Infinity);
    return flash_s - beep_s;
  });
}

export function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}
