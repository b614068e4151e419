// Tile: one broadcast on screen: picture or sound, its name, its controls.
//
// Sound is tried first; where the browser refuses it before a click, the tile plays muted and says so (`sound-refused`).

import { h, fill, setText } from '../dom.js';
import { Emitter } from '../emitter.js';
import { icon } from '../icons.js';
import * as format from '../format.js';
import { splitBroadcast } from '../names.js';

export class Tile extends Emitter {
  element;
  video;
  #message = h('p', { class: 'tile-message', 'data-testid': 'tile-message' });
  #facts = h('span', { class: 'tile-facts', 'data-testid': 'tile-facts' });
  #muteButton;
  #portrait;
  #muted;
  #started = false;

  /** `removable` gives it a button that leaves the broadcast out. */
  constructor(id, { muted = false, removable = false } = {}) {
    super();
    const { user } = splitBroadcast(id);
    this.id = id;
    this.#muted = muted;
    this.video = h('video', { playsInline: true, muted, 'data-testid': 'video', 'aria-label': `Live picture of ${user}` });
    this.video.addEventListener('playing', () => this.#onPlaying());
    this.video.addEventListener('dblclick', () => this.#fullScreen());
    this.#portrait = h('div', { class: 'tile-portrait', hidden: true }, h('span', { 'aria-hidden': 'true' }, user.slice(0, 2).toUpperCase()), 'Sound only');
    this.#muteButton = h('button', { type: 'button', class: 'tile-button', 'data-testid': 'tile-mute', onclick: () => this.setMuted(!this.#muted) });
    this.element = h('article', { class: 'tile', 'data-testid': 'tile', 'data-broadcast': id, 'aria-label': `Broadcast of ${user}` },
      this.video, this.#portrait, this.#message,
      h('div', { class: 'tile-bar' },
        h('span', { class: 'tile-name', 'data-testid': 'tile-name' }, user), this.#facts,
        h('span', { class: 'tile-buttons' },
          this.#muteButton,
          button('fullScreen', 'Full screen', 'tile-fullscreen', () => this.#fullScreen()),
          removable ? button('close', `Hide ${user}`, 'tile-hide', () => this.emit('hide', id)) : null)));
    this.#showMuted();
  }

  /** `entry` of the viewer: { stream, kinds, note }. */
  show({ stream, kinds, note }) {
    if (this.video.srcObject !== stream) this.video.srcObject = stream;
    this.#portrait.hidden = kinds.has('video');
    this.#muteButton.hidden = !kinds.has('audio');
    if (note) setText(this.#message, `${note.title} ${note.advice}`);
    else if (kinds.size === 0) setText(this.#message, 'Nothing is sent');
    else if (!kinds.has('video')) setText(this.#message, '');
    else setText(this.#message, this.#started ? '' : 'Starting…');
    if (kinds.size) this.#play();
  }

  /** The connection is gone; the tile stays in its place until it is known whether the broadcast comes back. */
  interrupt(text) {
    this.#started = false;
    setText(this.#facts, '');
    setText(this.#message, text);
  }

  setMuted(muted) {
    this.#muted = muted;
    this.video.muted = muted;
    this.#showMuted();
    if (!muted) this.#play();
  }

  get muted() {
    return this.#muted;
  }

  setFacts(tracks) {
    const video = tracks.find(({ kind }) => kind === 'video');
    // Tracks that take the place of others in a playing element bring no event.
    if (!this.#started && video?.frames_per_s > 0) this.#onPlaying();
    setText(this.#facts, video?.height ? `${video.height}p · ${Math.round(video.frames_per_s ?? 0)}/s` : '');
  }

  dispose() {
    this.video.srcObject = null;
    this.element.remove();
  }

  async #play() {
    try {
      await this.video.play();
    } catch (error) {
      if (error.name !== 'NotAllowedError' || this.video.muted) return; // AbortError: a newer stream took its place
      this.setMuted(true);
      this.emit('sound-refused');
      this.video.play().catch(() => this.interrupt('Press play in your browser to start'));
    }
  }

  #onPlaying() {
    this.#started = true;
    if (this.#message.textContent === 'Starting…') setText(this.#message, '');
    this.emit('playing');
  }

  #fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.element.requestFullscreen) this.element.requestFullscreen().catch(() => {});
    else this.video.webkitEnterFullscreen?.(); // iPhone: only the video itself
  }

  #showMuted() {
    const label = this.#muted ? 'Turn sound on' : 'Turn sound off';
    fill(this.#muteButton, icon(this.#muted ? 'soundOff' : 'sound'));
    this.#muteButton.setAttribute('aria-label', label);
    this.#muteButton.title = label;
  }
}

function button(iconName, label, testid, act) {
  return h('button', { type: 'button', class: 'tile-button', 'aria-label': label, title: label, 'data-testid': testid, onclick: act }, icon(iconName));
}
