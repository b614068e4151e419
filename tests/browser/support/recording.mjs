// Recording: what ffprobe and ffmpeg say about a file.

import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from './until.mjs';

const run = promisify(execFile);
const OUTPUT_MAX_BYTES = 64 * 1024 * 1024;

/** Paths below `directory` of what ends in `.mp4`, running ones with it, in the order they were begun. */
export async function files(directory) {
  const all = await readdir(directory, { recursive: true }).catch((error) => {
    if (error.code === 'ENOENT') return []; // made with the first recording
    throw error;
  });
  return all.filter((path) => path.endsWith('.mp4')).sort();
}

export const isRunning = (path) => path.endsWith('.part.mp4');

/** Waits until the server records nothing and has `count` files or more, all of them finished; returns them. */
export function finishedOnes(server, count) {
  return until(`${count} recordings are finished`, async () => {
    const all = await files(server.recordings);
    const recorders = await server.children('ffmpeg');
    if (all.length >= count && !all.some(isRunning) && recorders.length === 0) return all;
    throw new Error(`files: ${all.join(', ') || 'none'}; ffmpeg: ${recorders.join(', ') || 'none'}`);
  });
}

/** { duration_s, video, audio }, each track with codec, start_s, duration_s, packets (and width, height); undefined where there is none. */
export async function probe(directory, path) {
  const { stdout } = await run('ffprobe', ['-v', 'error', '-count_packets', '-show_streams', '-show_format', '-of', 'json', join(directory, path)], { maxBuffer: OUTPUT_MAX_BYTES });
  const { streams, format } = JSON.parse(stdout);
  const of = (kind) => {
    const stream = streams.find(({ codec_type: type }) => type === kind);
    return stream && {
      codec: stream.codec_name, start_s: Number(stream.start_time), duration_s: Number(stream.duration), packets: Number(stream.nb_read_packets),
      width: stream.width, height: stream.height,
    };
  };
  return { duration_s: Number(format.duration), video: of('video'), audio: of('audio') };
}

/** When its keyframes are shown, in seconds. */
export async function keyframes(directory, path) {
  const { stdout } = await run('ffprobe', ['-v', 'error', '-select_streams', 'v', '-show_entries', 'packet=pts_time,flags', '-of', 'csv=p=0', join(directory, path)], { maxBuffer: OUTPUT_MAX_BYTES });
  return stdout.split('\n').map((line) => line.split(',')).filter(([, flags]) => flags?.startsWith('K')).map(([time]) => Number(time));
}

/** Decodes all of it: { complaints, frames }: what ffmpeg complained of, one line each, and how many pictures came out. */
export async function decode(directory, path) {
  const { stdout, stderr } = await run('ffmpeg', ['-v', 'error', '-nostdin', '-i', join(directory, path), '-map', '0', '-fps_mode', 'passthrough', '-enc_time_base', '-1', '-progress', '-', '-f', 'null', '-'], { maxBuffer: OUTPUT_MAX_BYTES });
  const frames = [...stdout.matchAll(/^frame=\s*(\d+)$/gm)].at(-1)?.[1];
  return { complaints: stderr.trim().split('\n').filter(Boolean), frames: Number(frames ?? 0) };
}
