// Viewer: a tab on the watch route, judged by its tiles: what a person sees and hears of each broadcast.

import { until } from './until.mjs';

export class Viewer {
  tab;

  constructor(tab) {
    this.tab = tab;
  }

  async open(room, user, { muted = false } = {}) {
    await this.tab.open(`/watch/${room}${user ? `/${user}` : ''}${muted ? '?muted=1' : ''}`);
  }

  /** Ids of the broadcasts that have a tile. */
  tiles() {
    return this.tab.page.$$eval('[data-testid="tile"]', (tiles) => tiles.map(({ dataset }) => dataset.broadcast).sort());
  }

  /** The numbers behind one tile, by the element that plays it: { video, audio, element, message } or null. */
  received(id) {
    return this.tab.page.evaluate(async (broadcast) => {
      const tile = document.querySelector(`[data-testid="tile"][data-broadcast="${broadcast}"]`);
      const element = tile?.querySelector('video');
      const pc = window.onair.viewer?.pc;
      if (!element?.srcObject || !pc) return null;
      const of = async (kind) => {
        const track = element.srcObject.getTracks().find((candidate) => candidate.kind === kind);
        const receiver = track && pc.getReceivers().find((candidate) => candidate.track === track);
        if (!receiver) return undefined;
        const report = await receiver.getStats();
        const stats = [...report.values()].find(({ type }) => type === 'inbound-rtp');
        return stats && { ...stats, codec: report.get(stats.codecId)?.mimeType };
      };
      return {
        at_ms: performance.now(),
        video: await of('video'), audio: await of('audio'),
        element: { width: element.videoWidth, height: element.videoHeight, currentTime: element.currentTime, paused: element.paused, muted: element.muted },
        message: tile.querySelector('[data-testid="tile-message"]').textContent,
      };
    }, id);
  }

  /** Waits until the tile's picture and sound run: frames decoded and samples received both rise by some. */
  async waitPlaying(id, { video = true, audio = true, ...options } = {}) {
    const first = {};
    return until(`${this.tab.name}: ${id} plays`, async () => {
      const now = await this.received(id);
      if (now === null) throw new Error('there is no tile for it');
      const rises = (kind, name, by) => {
        const value = now[kind]?.[name];
        if (value === undefined) throw new Error(`no ${kind}`);
        // A replaced m-line counts anew.
        if (first[kind] === undefined || value < first[kind]) first[kind] = value;
        if (value < first[kind] + by) throw new Error(`${kind}: ${name} ${first[kind]} → ${value}`);
      };
      if (video) rises('video', 'framesDecoded', 15);
      if (audio) rises('audio', 'totalSamplesReceived', 24_000);
      if (now.element.paused) throw new Error('the element is paused');
      return now;
    }, options);
  }

  waitTiles(ids, options) {
    const wanted = [...ids].sort();
    return until(`${this.tab.name}: tiles of ${wanted.join(', ') || 'nobody'}`, async () => {
      const tiles = await this.tiles();
      if (JSON.stringify(tiles) === JSON.stringify(wanted)) return true;
      throw new Error(`tiles: ${tiles.join(', ')}`);
    }, options);
  }

  /** The wall is empty, the session stands, and the page says that it waits. */
  async waitWaiting() {
    await this.waitTiles([]);
    await this.tab.waitText('watch-state', /^Waiting$/);
  }
}
