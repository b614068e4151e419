// Api: what the server tells over plain HTTP.

import { timestamp } from './format.js';
import { splitBroadcast } from './names.js';
import { tokenHeaders, withToken } from './token.js';

const TIMEOUT_MS = 8000;

/** Live broadcasts: [{ id, room, user, since, tracks, viewers, bitrate, recording, recording_error? }]. Throws when the
 *  server does not answer. */
export async function liveBroadcasts(signal) {
  return (await list('/api/broadcasts', signal)).map((broadcast) => ({
    ...broadcast,
    ...splitBroadcast(broadcast.id),
    since: timestamp(broadcast.since),
    tracks: Array.isArray(broadcast.tracks) ? broadcast.tracks : [],
  }));
}

/** One page of recordings, newest first. `query` narrows it down: { room, user, limit }. The page is { items, next }:
 *  items: [{ path, href, room, user, file, broadcast, started, duration_s, size_bytes, running }];
 *  next: the address of the following page, null where this is the last one. */
export function recordings(query, signal) {
  return recordingsAt(`/api/recordings?${new URLSearchParams(query)}`, signal);
}

/** The first `pages` pages of recordings as one: { items, next }. */
export async function firstRecordings(pages, query, signal) {
  const { items, next } = await recordings(query, signal);
  const all = { items, next };
  for (let page = 1; page < pages && all.next; page += 1) {
    const more = await recordingsAt(all.next, signal);
    all.items.push(...more.items);
    all.next = more.next;
  }
  return all;
}

async function recordingsAt(path, signal) {
  const response = await request('GET', path, signal);
  const items = (await jsonList(path, response)).map((recording) => {
    const [room, user, file] = recording.path.split('/').slice(-3);
    return {
      ...recording,
      room, user, file,
      href: withToken(`/recordings/${[room, user, file].map(encodeURIComponent).join('/')}`),
      started: timestamp(recording.started),
      running: recording.path.endsWith('.part.mp4'),
    };
  }).sort((a, b) => (b.started ?? 0) - (a.started ?? 0));
  return { items, next: nextPage(path, response) };
}

/** Begins or ends the recording of a live broadcast. Throws with what the server says, and its `status`. */
export async function setRecording({ room, user }, on) {
  const path = `/api/broadcasts/${[room, user].map(encodeURIComponent).join('/')}/recording`;
  await request(on ? 'POST' : 'DELETE', path);
}

/** STUN and TURN servers for one peer connection, with a login that is good for a day. Throws when they cannot be had. */
export async function iceServers() {
  const { iceServers: servers } = await get('/api/ice-servers');
  if (!Array.isArray(servers)) throw new Error('/api/ice-servers: unexpected answer');
  return servers;
}

async function list(path, signal) {
  return jsonList(path, await request('GET', path, signal));
}

async function jsonList(path, response) {
  const items = await response.json();
  if (!Array.isArray(items)) throw new Error(`${path}: unexpected answer`);
  return items;
}

async function get(path, signal) {
  return (await request('GET', path, signal)).json();
}

async function request(method, path, signal) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(path, { method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout, headers: { accept: 'application/json', ...tokenHeaders() } });
  if (!response.ok) throw Object.assign(new Error(await reason(response)), { status: response.status, unauthorized: response.status === 401 });
  return response;
}

// `Link: <…>; rel="next"` (RFC 8288). An address of another server is not followed: the token goes with the request.
function nextPage(path, response) {
  const link = /<([^>]*)>\s*;[^,]*\brel="?next\b/.exec(response.headers.get('link') ?? '');
  if (!link) return null;
  const url = new URL(link[1], new URL(path, location.href));
  return url.origin === location.origin ? url.pathname + url.search : null;
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
