// Home: what is live, what was recorded last, and the ways in.

import { h, fill, field } from '../dom.js';
import { icon } from '../icons.js';
import { liveBroadcasts, recordings, poll } from '../api.js';
import { defaultRoom, isName, NAME_RULE, watchHref } from '../names.js';
import * as format from '../format.js';
import { token } from '../token.js';
import { recordButton } from './recordbutton.js';
import { recordingRow } from './recordings.js';
import { foldedTokenForm } from './tokenform.js';

const EVERY_MS = 4000;
const RECENT = 5;

export function homeView(root) {
  const live = h('div', { 'data-testid': 'live' }, h('p', { class: 'empty' }, 'Looking…'));
  const recent = h('div', { 'data-testid': 'recent' });
  const trouble = h('p', { class: 'problem', role: 'status', 'data-testid': 'api-problem', hidden: true });
  fill(root,
    h('h1', { class: 'visually-hidden' }, 'onair'),
    h('div', { class: 'doors' }, publishDoor(), watchDoor()),
    trouble,
    h('section', { 'aria-labelledby': 'live-title' }, h('h2', { id: 'live-title' }, 'Live now'), live),
    h('section', { 'aria-labelledby': 'recent-title' },
      h('div', { class: 'section-head' }, h('h2', { id: 'recent-title' }, 'Recent recordings'), h('a', { href: '#/recordings' }, 'All recordings')), recent),
    foldedTokenForm());
  let liveBefore = '';
  const stopLive = poll(async (signal) => {
    const broadcasts = await liveBroadcasts(signal);
    trouble.hidden = true;
    const now = JSON.stringify([broadcasts, new Date().getMinutes()]);
    if (now === liveBefore) return; // nothing changed: focus and selection stay where they are
    liveBefore = now;
    fill(live, liveList(broadcasts));
  }, EVERY_MS, (error) => {
    trouble.hidden = false;
    fill(trouble, error.unauthorized ? 'The server does not know this token: enter another one, or forget it.' : `The server does not answer (${error.message}). This page keeps asking.`);
  });
  // Apart from what is live: this list waits for the recordings' disk, which may hang.
  let recentBefore = '';
  const stopRecent = poll(async (signal) => {
    const { items, failure } = await recentOrFailure(signal);
    const now = JSON.stringify([items, failure?.message]);
    if (now === recentBefore) return;
    recentBefore = now;
    fill(recent, failure ? unread(failure) : recentList(items));
  }, EVERY_MS, () => { /* the other list says that the server does not answer */ });
  return () => {
    stopLive();
    stopRecent();
  };
}

/** { items } or { failure }: why the server that answers has no list. Throws where it does not answer, or knows no such token. */
async function recentOrFailure(signal) {
  try {
    return { items: (await recordings({ limit: RECENT }, signal)).items.slice(0, RECENT) };
  } catch (failure) {
    if (!failure.status || failure.unauthorized) throw failure;
    return { failure };
  }
}

function publishDoor() {
  return h('section', { class: 'door door-publish', 'aria-labelledby': 'publish-title' },
    h('h2', { id: 'publish-title' }, 'Go on air'),
    h('p', {}, 'Send your camera or your screen, straight from the browser.'),
    h('a', { class: 'button primary', href: '#/publish', 'data-testid': 'go-publish' }, icon('camera'), 'Publish'));
}

function watchDoor() {
  const room = h('input', { name: 'room', value: defaultRoom(), required: true, maxlength: 64, autocapitalize: 'off', autocomplete: 'off', spellcheck: 'false', 'data-testid': 'home-room' });
  const error = h('p', { class: 'field-error', role: 'alert' });
  const open = (event) => {
    event.preventDefault();
    const name = room.value.trim();
    if (isName(name)) location.hash = watchHref(name);
    else fill(error, NAME_RULE);
  };
  return h('section', { class: 'door', 'aria-labelledby': 'watch-title' },
    h('h2', { id: 'watch-title' }, 'Watch a room'),
    h('p', {}, 'Everyone who is live in a room, side by side. You may come early.'),
    h('form', { class: 'inline-form', onsubmit: open, novalidate: true },
      field('Room', room), h('button', { class: 'button', 'data-testid': 'go-watch' }, icon('eye'), 'Watch')),
    error);
}

const unread = (error) => h('p', { class: 'empty' }, `The list cannot be read (${error.message}).`);

function recentList(recorded) {
  if (recorded.length === 0) return h('p', { class: 'empty' }, 'Nothing was recorded yet.');
  return h('ul', { class: 'rows' }, recorded.map((recording) => recordingRow(recording)));
}

function liveList(broadcasts) {
  if (broadcasts.length === 0) return h('p', { class: 'empty' }, 'Nothing is live at the moment.');
  const rooms = Map.groupBy ? Map.groupBy(broadcasts, ({ room }) => room) : groupByRoom(broadcasts);
  return [...rooms].map(([room, list]) => h('section', { class: 'room', 'aria-label': `Room ${room}` },
    h('div', { class: 'section-head' }, h('h3', {}, room), h('a', { href: watchHref(room) }, 'Watch the room')),
    h('ul', { class: 'cards' }, list.map(liveCard))));
}

function liveCard(broadcast) {
  const codecs = broadcast.tracks.map(({ codec }) => format.codec(codec)).join(' + ');
  const kinds = new Set(broadcast.tracks.map(({ kind }) => kind));
  return h('li', {}, h('a', { class: 'card live-card', href: watchHref(broadcast.room, broadcast.user), 'data-testid': 'live-card', 'data-broadcast': broadcast.id },
    h('span', { class: 'live-card-head' },
      h('span', { class: 'live-card-name' }, broadcast.user),
      h('span', { class: 'chip', 'data-tone': 'live' }, 'Live'),
      broadcast.recording ? h('span', { class: 'chip', 'data-tone': 'rec' }, 'Rec') : null),
    h('span', { class: 'facts' },
      [format.plural(broadcast.viewers ?? 0, 'viewer'), format.bitrate(broadcast.bitrate ?? NaN), codecs,
        kinds.has('video') ? null : 'sound only', `on for ${format.age(broadcast.since)}`]
        .filter(Boolean).map((fact) => h('span', {}, fact))),
    broadcast.recording_error ? h('span', { class: 'live-card-note', 'data-testid': 'recording-error' }, `Not recorded: ${broadcast.recording_error}`) : null),
  token() ? recordButton(broadcast) : null);
}

function groupByRoom(broadcasts) {
  const rooms = new Map();
  for (const broadcast of broadcasts) rooms.set(broadcast.room, [...(rooms.get(broadcast.room) ?? []), broadcast]);
  return rooms;
}
