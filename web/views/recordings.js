// Recordings: the list, and a player for one of them.

import { h, fill } from '../dom.js';
import { icon } from '../icons.js';
import { firstRecordings, recordings, poll } from '../api.js';
import * as format from '../format.js';
import { foldedTokenForm } from './tokenform.js';

const EVERY_MS = 4000;
/** Recordings of one page, and the most that the server gives at once. */
const PAGE = 50;
const PAGE_MAX = 1000;

export function recordingsView(root, route) {
  const playing = route.query.get('play');
  const player = h('div', {});
  const list = h('div', { 'data-testid': 'recordings' }, h('p', { class: 'empty' }, 'Looking…'));
  const more = h('button', { type: 'button', class: 'button', 'data-testid': 'more-recordings', onclick: () => showMore() }, 'Show more');
  const moreLine = h('div', { class: 'show-more', hidden: true }, more);
  const trouble = h('p', { class: 'problem', role: 'status', hidden: true });
  fill(root, h('h1', {}, 'Recordings'), trouble, player, h('div', {}, list, moreLine), foldedTokenForm());
  let before = '';
  let shown = false;
  let pages = 1;
  let stop = watch();

  function watch() {
    return poll(load, EVERY_MS, (error) => {
      more.disabled = false;
      trouble.hidden = false;
      fill(trouble, error.unauthorized ? 'The server does not know this token: enter another one, or forget it.' : `The server does not answer (${error.message}). This page keeps asking.`);
    });
  }

  async function load(signal) {
    const { items: all, next } = await firstRecordings(pages, { limit: PAGE }, signal);
    trouble.hidden = true;
    if (playing && !shown) {
      const recording = findRecording(all, playing) ?? (next ? await olderRecording(playing, signal) : undefined);
      shown = recording !== undefined;
      fill(player, shown ? recordingPlayer(recording, () => { shown = false; }) : h('p', { class: 'problem', role: 'status' }, 'This recording is not there. If it was stopped a moment ago, it appears here as soon as it is complete.'));
    }
    moreLine.hidden = next === null;
    more.disabled = false;
    const now = JSON.stringify(all);
    if (now === before) return;
    before = now;
    fill(list, all.length
      ? h('ul', { class: 'rows' }, all.map((recording) => recordingRow(recording, recording.path === playing)))
      : h('p', { class: 'empty' }, 'Nothing was recorded yet. Broadcasts are recorded as they run, and appear here.'));
  }

  function showMore() {
    pages += 1;
    more.disabled = true;
    stop();
    stop = watch();
  }

  return () => {
    stop();
    player.querySelector('video')?.pause();
  };
}

// A link may lead to a recording that stands on none of the pages shown.
async function olderRecording(path, signal) {
  const [room, user] = path.split('/');
  const { items } = await recordings({ room, user, limit: PAGE_MAX }, signal);
  return findRecording(items, path);
}

/** One line of a list of recordings, here and on the home page. */
export function recordingRow(recording, current = false) {
  const name = `${recording.broadcast}, ${format.dateTime(recording.started)}`;
  return h('li', { class: 'row', 'data-testid': 'recording', 'data-path': recording.path, 'aria-current': current ? 'true' : null },
    h('div', { class: 'row-text' },
      h('span', { class: 'row-title' }, recording.broadcast, recording.running ? h('span', { class: 'chip', 'data-tone': 'rec' }, 'Recording') : null),
      h('span', { class: 'facts' },
        [format.dateTime(recording.started), format.clock(recording.duration_s ?? NaN), format.size(recording.size_bytes ?? NaN)].map((fact) => h('span', {}, fact)))),
    h('div', { class: 'row-buttons' },
      h('a', { class: 'button small', href: `#/recordings?play=${encodeURIComponent(recording.path)}`, 'aria-label': `Play ${name}`, 'data-testid': 'recording-play' }, icon('play'), h('span', { class: 'wide-only' }, 'Play')),
      h('a', { class: 'button small', href: recording.href, download: recording.file, 'aria-label': `Download ${name}`, 'data-testid': 'recording-download' }, icon('download'), h('span', { class: 'wide-only' }, 'Download'))));
}

// While it runs a recording has another name than afterwards; a link to either finds it.
function findRecording(all, path) {
  const bare = (name) => name.replace(/\.part\.mp4$/, '.mp4');
  return all.find((recording) => recording.path === path) ?? all.find((recording) => bare(recording.path) === bare(path));
}

/** `gone` is called when a running recording cannot be played: it may have been completed under its other name just now. */
function recordingPlayer(recording, gone) {
  const failed = h('p', { class: 'problem', role: 'alert', hidden: true });
  const video = h('video', { controls: true, playsInline: true, preload: 'metadata', src: recording.href, 'data-testid': 'player', 'aria-label': `Recording of ${recording.broadcast}` });
  video.addEventListener('error', () => {
    failed.hidden = false;
    fill(failed, recording.running
      ? 'Nothing can be played at this moment; it is tried again in a few seconds.'
      : 'This browser cannot play the file. Download it and play it with VLC or mpv, or try another browser.');
  });
  if (recording.running) video.addEventListener('error', gone);
  video.play().catch(() => { /* the controls are there */ });
  return h('section', { class: 'player', 'aria-label': 'Player' },
    h('div', { class: 'stage' }, video),
    failed,
    h('div', { class: 'section-head' },
      h('h2', {}, recording.broadcast),
      h('a', { href: '#/recordings' }, 'Close')),
    recording.running ? h('p', { class: 'hint' }, 'Still being recorded: this plays what has been written so far.') : null);
}
