// RecordingLine: what becomes of the recording of one's own broadcast, and the button that begins or ends it.

import { h, fill, setText } from '../dom.js';
import { icon } from '../icons.js';
import * as format from '../format.js';

export class RecordingLine {
  element;
  #publisher = null;
  #button = h('button', { type: 'button', class: 'button', 'data-testid': 'record', onclick: () => this.#press() });
  #words = h('p', { role: 'status', 'data-testid': 'recording-words' });
  #problem = h('p', { class: 'field-error', role: 'alert', 'data-testid': 'recording-problem' });
  #shown = '';

  constructor() {
    this.element = h('div', { class: 'recording-line', hidden: true }, this.#button, this.#words, this.#problem);
  }

  /** `publisher` while it is on air, else null. */
  show(publisher) {
    this.#publisher = publisher;
    this.element.hidden = publisher?.state !== 'connected';
    if (this.element.hidden) return;
    const { recordingWanted, recordingRequest: { busy, problem } } = publisher;
    this.#button.disabled = busy;
    const label = recordingWanted ? 'Stop recording' : 'Record';
    if (this.#button.dataset.label !== label) {
      this.#button.dataset.label = label;
      fill(this.#button, icon(recordingWanted ? 'stop' : 'record'), label);
    }
    this.#showWords(publisher);
    setText(this.#problem, problem ?? '');
  }

  #showWords({ recording, recordingWanted }) {
    const now = JSON.stringify([recording, recordingWanted]);
    if (now === this.#shown) return; // read out once, and a link that has the focus keeps it
    this.#shown = now;
    this.#words.dataset.tone = recording?.state === 'failed' ? 'bad' : 'quiet';
    fill(this.#words, words(recording ?? {}, recordingWanted));
  }

  #press() {
    this.#publisher?.record(!this.#publisher.recordingWanted);
  }
}

function words({ state, file, error, duration_s, size_bytes }, wanted) {
  switch (state) {
    case 'started':
      return [wanted ? 'Recording to ' : 'Finishing ', fileName(file)];
    case 'finished':
      return ['Recorded: ', link(file), facts(duration_s, size_bytes)];
    case 'failed':
      return `Recording failed${error ? `: ${error}` : ''}.${wanted ? ' The server tries again by itself.' : ''}`;
    case 'ready':
      return 'The recording begins in a moment.';
    default:
      return 'This broadcast is not recorded.';
  }
}

function facts(duration_s, size_bytes) {
  const known = [
    Number.isFinite(duration_s) ? format.clock(duration_s) : null,
    Number.isFinite(size_bytes) ? format.size(size_bytes) : null,
  ].filter(Boolean);
  return known.length ? `, ${known.join(', ')}` : '';
}

const fileName = (path) => (path ? path.split('/').pop() : 'a file');

const link = (path) => (path ? h('a', { href: `#/recordings?play=${encodeURIComponent(path)}` }, fileName(path)) : 'a file');
