// Listener: a page that hears what /api/events tells, from the moment it is opened.

import { until } from './until.mjs';

const NAMES = ['broadcasts', 'broadcaster-connected', 'broadcaster-disconnected', 'viewers', 'recording'];

export class Listener {
  tab;

  constructor(tab) {
    this.tab = tab;
  }

  /** Opens the list of what is live in `tab`, and listens there. */
  static async open(tab, route = '/') {
    await tab.open(route);
    await tab.page.evaluate((names) => {
      const events = window.heard = [];
      const source = new EventSource('/api/events');
      for (const name of names) source.addEventListener(name, ({ type, data }) => events.push({ type, ...JSON.parse(data) }));
    }, NAMES);
    return new Listener(tab);
  }

  /** Waits for an event of that name which `wanted` accepts, and returns the first one. */
  heard(name, wanted, options) {
    return until(`the page hears of ${name}`, async () => {
      const all = await this.tab.page.evaluate(() => window.heard);
      const found = all.find((event) => event.type === name && wanted(event));
      if (found) return found;
      throw new Error(JSON.stringify(all));
    }, options);
  }
}
