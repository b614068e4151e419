// Api: what the server tells over plain HTTP.

import { timestamp } from './format.js';
import { splitBroadcast } from './names.js';
import { tokenHeaders, withToken } from './token.js';

const TIMEOUT_MS = 8000;

/** Live broadcasts: [{ id, room, user, since, tracks, viewers, bitrate, recording }]. Throws when the server does not answer. */
export async function liveBroadcasts(signal) {
  return (await list('/api/broadcasts', signal)).map((broadcast) => ({
    ...broadcast,
    ...splitBroadcast(broadcast.id),
    since: timestamp(broadcast.since),
    tracks: Array.isArray(broadcast.tracks) ? broadcast.tracks : [],
  }));
}

/** Recordings, newest first: [{ path, href, room, user, file, broadcast, started, duration_s, size_bytes, running }]. */
export async function recordings(signal) {
  return (await list('/api/recordings', signal)).map((recording) => {
    const [room, user, file] = recording.path.split('/').slice(-3);
    return {
      ...recording,
      room, user, file,
      href: withToken(`/recordings/${[room, user, file].map(encodeURIComponent).join('/')}`),
      started: timestamp(recording.started),
      running: recording.path.endsWith('.part.mp4'),
    };
  }).sort((a, b) => (b.started ?? 0) - (a.started ?? 0));
}

/** STUN and TURN servers for one peer connection, with a login that is good for a day. Throws when they cannot be had. */
export async function iceServers() {
  const { iceServers: servers } = await get('/api/ice-servers');
  if (!Array.isArray(servers)) throw new Error('/api/ice-servers: unexpected answer');
  return servers;
}

async function list(path, signal) {
  const items = await get(path, signal);
  if (!Array.isArray(items)) throw new Error(`${path}: unexpected answer`);
  return items;
}

async function get(path, signal) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(path, { signal: signal ? AbortSignal.any([signal, timeout]) : timeout, headers: { accept: 'application/json', ...tokenHeaders() } });
  if (!response.ok) throw Object.assign(new Error(await reason(response)), { unauthorized: response.status === 401 });
  return response.json();
}

// application/problem+json (RFC 9457) where the server says more than a number.
async function reason(response) {
  const problem = await response.json().catch(() => null);
  return problem?.detail ?? problem?.title ?? `HTTP ${response.status}`;
}

/** Calls `load` now and every `every_ms` while the page is visible; after failures less often. Returns the function that ends it. */
export function poll(load, every_ms, onFailure) {
  const abort = new AbortController();
  let timer = null;
  let failures = 0;
  const turn = async () => {
    clearTimeout(timer);
    try {
      await load(abort.signal);
      failures = 0;
    } catch (error) {
      if (abort.signal.aborted) return;
      failures = Math.min(failures + 1, 3);
      onFailure(error);
    }
    if (!abort.signal.aborted && document.visibilityState === 'visible') timer = setTimeout(turn, every_ms * 2 ** failures);
  };
  const onVisible = () => { if (document.visibilityState === 'visible') turn(); };
  document.addEventListener('visibilitychange', onVisible);
  turn();
  return () => {
    abort.abort();
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', onVisible);
  };
}
