// EventLog: what happened to one session, with times. Capped: the oldest entries go first.

import { Emitter } from './emitter.js';

const ENTRIES_MAX = 200;

export class EventLog extends Emitter {
  entries = [];

  /** `level` is info, good, warn or error. */
  add(text, level = 'info') {
    const entry = { at: new Date(), level, text };
    this.entries.push(entry);
    if (this.entries.length > ENTRIES_MAX) this.entries.shift();
    this.emit('add', entry);
  }
}
