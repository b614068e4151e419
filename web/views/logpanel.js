// LogPanel: a session's event log, newest first, folded away until asked for.

import { h, setText } from '../dom.js';
import * as format from '../format.js';

export class LogPanel {
  element;
  #list = h('ol', { class: 'log', reversed: true, tabindex: 0, 'aria-label': 'Events, newest first', 'data-testid': 'log' });
  #count = h('span', { class: 'count' });
  #off = null;

  constructor() {
    this.element = h('details', { class: 'log-panel card' }, h('summary', {}, 'Event log ', this.#count), this.#list);
  }

  attach(log) {
    this.detach();
    this.#list.replaceChildren(...log.entries.map(line).reverse());
    this.#recount(log);
    this.#off = log.on('add', (entry) => {
      this.#list.prepend(line(entry));
      while (this.#list.children.length > log.entries.length) this.#list.lastElementChild.remove();
      this.#recount(log);
    });
  }

  detach() {
    this.#off?.();
    this.#off = null;
  }

  #recount(log) {
    setText(this.#count, String(log.entries.length));
  }
}

function line({ at, level, text }) {
  return h('li', { 'data-level': level }, h('time', { datetime: at.toISOString() }, format.time(at)), h('span', {}, text));
}
