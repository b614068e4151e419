// StatsPanel: how the connection does, at a glance.

import { h, setText } from '../dom.js';
import * as format from '../format.js';
import { Sparkline } from './sparkline.js';

const CONNECTION_WORDS = { new: 'new', connecting: 'connecting', connected: 'connected', disconnected: 'interrupted', failed: 'failed', closed: 'closed' };

export class StatsPanel {
  element;
  #values = new Map();
  #sparkline = new Sparkline('Bitrate of the last minute');

  /** `role` is broadcaster or viewer: freezes are seen by viewers only. */
  constructor(role) {
    const cells = [
      ['state', 'Connection'], ['latency', 'Latency'], ['bitrate', 'Bitrate'], ['fps', 'Frames'],
      ['resolution', 'Picture'], ['loss', 'Packet loss'],
      role === 'viewer' ? ['freezes', 'Freezes'] : ['limit', 'Limited by'],
      ['codec', 'Codec'],
    ];
    this.element = h('section', { class: 'stats', 'aria-label': 'Statistics', 'data-testid': 'stats' },
      h('dl', {}, cells.map(([name, label]) => this.#cell(name, label))));
  }

  /** `latency_ms` is the health check's; without it the path's own round trip is shown. */
  update(sample, latency_ms, history) {
    const video = sample?.tracks.filter(({ kind }) => kind === 'video') ?? [];
    const audio = sample?.tracks.filter(({ kind }) => kind === 'audio') ?? [];
    const only = video.length === 1 ? video[0] : null;
    const several = video.length > 1 ? `${video.length} pictures` : null;
    const codecs = new Set([...video, ...audio].map(({ codec }) => codec).filter(Boolean).map(format.codec));
    this.#set('state', CONNECTION_WORDS[sample?.state] ?? '–');
    this.#set('latency', format.milliseconds(latency_ms ?? sample?.rtt_ms ?? NaN));
    this.#set('bitrate', format.bitrate(sample?.bitrate_bps ?? NaN));
    this.#set('fps', several ? '–' : format.frameRate(only?.frames_per_s ?? NaN));
    this.#set('resolution', several ?? format.resolution(only?.width, only?.height));
    this.#set('loss', format.percent(sample?.loss ?? NaN));
    this.#set('freezes', format.count(sample?.freezes ?? NaN));
    this.#set('limit', only && sample.state === 'connected' ? { cpu: 'this computer', bandwidth: 'the network' }[only.limitedBy] ?? 'nothing' : '–');
    this.#set('codec', codecs.size ? [...codecs].join(' + ') : '–');
    this.#sparkline.draw(history ?? []);
  }

  #cell(name, label) {
    const value = h('span', { 'data-testid': `stat-${name}` }, '–');
    this.#values.set(name, value);
    return h('div', { class: `stat stat-${name}` }, h('dt', {}, label), h('dd', {}, value, name === 'bitrate' ? this.#sparkline.element : null));
  }

  #set(name, text) {
    const value = this.#values.get(name);
    if (value) setText(value, text);
  }
}
