// Watch: one broadcast, or a room as a wall that grows and shrinks.

import { h, fill } from '../dom.js';
import { icon } from '../icons.js';
import { Viewer } from '../viewer.js';
import { splitBroadcast, remember, watchHref } from '../names.js';
import { plural } from '../format.js';
import { keepAwake } from '../wakelock.js';
import { current } from '../sessions.js';
import { Tile } from './tile.js';
import { StatsPanel } from './statspanel.js';
import { LogPanel } from './logpanel.js';
import { announceState, chip, problemPanel, statusOf } from './status.js';
import { token } from '../token.js';

const TICK_MS = 500;

export function watchView(root, route) {
  const view = new WatchView(route);
  fill(root, view.element);
  view.begin();
  return () => view.dispose();
}

class WatchView {
  element;
  #viewer;
  #target;
  #tiles = new Map();
  #startMuted;
  #wall = h('div', { class: 'wall', 'data-testid': 'wall' });
  #empty = h('div', { class: 'stage wall-empty' });
  #state = chip('watch-state');
  #problem = problemPanel();
  #soundOn = h('button', { type: 'button', class: 'button primary sound-on', hidden: true, 'data-testid': 'unmute', onclick: () => this.#turnSoundOn() }, icon('soundOff'), 'Turn sound on');
  #again = h('button', { type: 'button', class: 'button', hidden: true, 'data-testid': 'watch-again', onclick: () => this.#restart() }, 'Try again');
  #choice = h('fieldset', { class: 'checks choice', hidden: true, 'data-testid': 'choice' });
  #stats = new StatsPanel('viewer');
  #log = new LogPanel();
  #timer;
  #choiceShown = '';

  constructor(route) {
    const { room, user } = route.params;
    this.#target = { room, user, token: token() };
    this.#startMuted = route.query.get('muted') === '1';
    remember('room', room);
    this.element = h('div', { class: user ? 'watch-one' : 'watch-room' },
      h('div', { class: 'watch-head' },
        h('h1', {}, user ?? room),
        user ? h('a', { href: watchHref(room), class: 'watch-up' }, `in room ${room}`) : null,
        this.#state.element, this.#soundOn, this.#again),
      this.#problem.element, this.#wall, this.#empty, this.#choice, this.#stats.element, this.#log.element);
  }

  begin() {
    this.#viewer = new Viewer(this.#target);
    current.viewer = this.#viewer;
    this.#log.attach(this.#viewer.log);
    this.#viewer.on('change', () => this.#show());
    this.#viewer.on('sample', (sample) => this.#showSample(sample));
    this.#timer = setInterval(() => this.#showState(), TICK_MS);
    keepAwake(true);
    this.#viewer.start();
    this.#show();
  }

  dispose() {
    clearInterval(this.#timer);
    this.#log.detach();
    this.#viewer.stop();
    current.viewer = null;
    keepAwake(false);
    for (const tile of this.#tiles.values()) tile.dispose();
    if (document.fullscreenElement) document.exitFullscreen();
  }

  #restart() {
    this.dispose();
    this.#tiles.clear();
    this.begin();
  }

  #show() {
    const { state } = this.#viewer;
    const broadcasts = state === 'ended' ? new Map() : this.#viewer.broadcasts;
    for (const [id, tile] of this.#tiles) {
      if (broadcasts.has(id)) continue;
      tile.dispose();
      this.#tiles.delete(id);
    }
    for (const [id, entry] of broadcasts) {
      if (!this.#tiles.has(id)) this.#addTile(id);
      this.#tiles.get(id).show(entry);
    }
    if (state === 'reconnecting' || state === 'ended') {
      for (const tile of this.#tiles.values()) tile.interrupt('Interrupted');
      this.#stats.update(null, null, []);
    }
    this.#wall.dataset.count = String(Math.min(this.#tiles.size, 10));
    this.#wall.hidden = this.#tiles.size === 0;
    this.#empty.hidden = this.#tiles.size > 0;
    fill(this.#empty, h('p', {}, this.#emptyText()));
    this.#again.hidden = state !== 'ended';
    this.#problem.set(this.#viewer.problem);
    this.#showChoice();
    this.#showState();
  }

  #addTile(id) {
    const { user } = this.#target;
    const tile = new Tile(id, { muted: this.#startMuted, removable: !user });
    tile.on('hide', () => this.#viewer.setWanted(id, false));
    tile.on('sound-refused', () => { this.#soundOn.hidden = false; });
    this.#tiles.set(id, tile);
    this.#wall.append(tile.element);
    if (this.#startMuted) this.#soundOn.hidden = false;
  }

  // Called from a click, so browsers allow it; what comes later plays with sound as well.
  #turnSoundOn() {
    this.#startMuted = false;
    this.#soundOn.hidden = true;
    for (const tile of this.#tiles.values()) tile.setMuted(false);
  }

  #emptyText() {
    const { room, user } = this.#target;
    const { state, live, hidden } = this.#viewer;
    if (state === 'ended') return 'Not connected.';
    if (['connecting', 'joining', 'reconnecting'].includes(state)) return 'Connecting…';
    if ([...live].some((id) => hidden.has(id))) return 'All broadcasts of this room are hidden.';
    if (live.size > 0) return 'Starting…';
    return user ? `Waiting for ${user} to go live. This page starts by itself.` : `Nobody is live in ${room} yet. Broadcasts appear here by themselves.`;
  }

  #showState() {
    const { live, broadcasts } = this.#viewer;
    const connected = broadcasts.size || live.size
      ? { text: this.#target.user ? 'Live' : `Live · ${plural(live.size, 'broadcast')}`, tone: 'live' }
      : { text: 'Waiting', tone: 'quiet' };
    const { text, tone } = statusOf(this.#viewer, connected);
    this.#state.set(text, tone);
    announceState(this.#viewer, connected);
  }

  #showSample(sample) {
    this.#stats.update(sample, this.#viewer.latency_ms, this.#viewer.stats?.history);
    for (const [id, tile] of this.#tiles) tile.setFacts(sample.tracks.filter(({ broadcast }) => broadcast === id));
  }

  // Which broadcasts of the room are received.
  #showChoice() {
    const { live, hidden } = this.#viewer;
    const ids = [...new Set([...live, ...this.#viewer.broadcasts.keys()])].sort();
    this.#choice.hidden = Boolean(this.#target.user) || this.#viewer.state === 'ended' || (ids.length < 2 && !ids.some((id) => hidden.has(id)));
    const now = JSON.stringify(ids.map((id) => [id, hidden.has(id)]));
    if (now === this.#choiceShown) return;
    this.#choiceShown = now;
    const focused = document.activeElement?.dataset?.choice;
    fill(this.#choice, h('legend', {}, 'Shown'), ids.map((id) => {
      const box = h('input', { type: 'checkbox', checked: !hidden.has(id), 'data-testid': 'choice-box', 'data-choice': id, onchange: () => this.#viewer.setWanted(id, box.checked) });
      return h('label', {}, box, h('span', {}, splitBroadcast(id).user));
    }));
    if (focused) [...this.#choice.querySelectorAll('input')].find((box) => box.dataset.choice === focused)?.focus();
  }
}
