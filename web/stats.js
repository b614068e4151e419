// StatsSampler: getStats once a second, as differences a person can read.
//
// A sample: { at, state, rtt_ms, available_bps, bitrate_bps, loss, freezes, tracks }, and each of `tracks`:
// { mid, kind, broadcast, codec, bitrate_bps, loss, frames_per_s, width, height, frames, freezes, keyFrames, jitter_ms, limitedBy }.
// `loss` is the share of packets lost in the last second.

import { Emitter } from './emitter.js';

const EVERY_MS = 1000;
const HISTORY_MAX = 60;

export class StatsSampler extends Emitter {
  latest = null;
  history = [];
  #pc;
  #broadcastOf;
  #before = new Map();
  #timer;

  /** `broadcastOf(mid)` names the broadcast an m-line belongs to now, or null for one that carries nothing. */
  constructor(pc, broadcastOf) {
    super();
    this.#pc = pc;
    this.#broadcastOf = broadcastOf;
    this.#timer = setInterval(() => this.#sample(), EVERY_MS);
  }

  stop() {
    clearInterval(this.#timer);
  }

  async #sample() {
    if (this.#pc.connectionState === 'closed') return;
    const report = await this.#pc.getStats().catch(() => null);
    if (!report) return;
    const tracks = [];
    const before = this.#before;
    this.#before = new Map();
    for (const stats of report.values()) {
      if (stats.type !== 'inbound-rtp' && stats.type !== 'outbound-rtp') continue;
      this.#before.set(stats.id, stats);
      const broadcast = this.#broadcastOf(stats.mid);
      if (broadcast !== null) tracks.push({ broadcast, ...trackSample(stats, before.get(stats.id), report) });
    }
    const pair = selectedPair(report);
    this.latest = {
      at: new Date(),
      state: this.#pc.connectionState,
      rtt_ms: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
      available_bps: pair?.availableOutgoingBitrate ?? null,
      tracks,
      ...totals(tracks),
    };
    this.history.push(this.latest.bitrate_bps ?? 0);
    if (this.history.length > HISTORY_MAX) this.history.shift();
    this.emit('sample', this.latest);
  }
}

/** Sums over tracks: { bitrate_bps, loss, freezes }. */
export function totals(tracks) {
  const sum = (name) => tracks.reduce((total, track) => total + (track[name] ?? 0), 0);
  const known = tracks.filter(({ bitrate_bps }) => bitrate_bps !== null);
  const packets = sum('packets') + sum('lost');
  return {
    bitrate_bps: known.length ? sum('bitrate_bps') : null,
    loss: packets > 0 ? sum('lost') / packets : null,
    freezes: tracks.some(({ freezes }) => freezes !== null) ? sum('freezes') : null,
  };
}

function trackSample(stats, before, report) {
  const inbound = stats.type === 'inbound-rtp';
  const seconds = before ? (stats.timestamp - before.timestamp) / 1000 : 0;
  const delta = (name) => (before && seconds > 0 ? (stats[name] ?? 0) - (before[name] ?? 0) : null);
  const perSecond = (name) => (delta(name) === null ? null : Math.max(0, delta(name)) / seconds);
  const bytesName = inbound ? 'bytesReceived' : 'bytesSent';
  const framesName = inbound ? 'framesDecoded' : 'framesSent';
  const bytes_per_s = perSecond(bytesName);
  const packets = Math.max(0, delta(inbound ? 'packetsReceived' : 'packetsSent') ?? 0);
  const remote = inbound ? null : report.get(stats.remoteId);
  const loss = inbound ? null : remote?.fractionLost ?? null;
  return {
    mid: stats.mid,
    kind: stats.kind,
    codec: report.get(stats.codecId)?.mimeType ?? null,
    bitrate_bps: bytes_per_s === null ? null : bytes_per_s * 8,
    packets,
    // What a receiver counts itself; what a sender is told as a share.
    lost: inbound ? Math.max(0, delta('packetsLost') ?? 0) : (loss ?? 0) * packets,
    frames_per_s: stats.kind === 'video' ? perSecond(framesName) : null,
    width: stats.frameWidth ?? null,
    height: stats.frameHeight ?? null,
    frames: stats[framesName] ?? null,
    freezes: inbound && stats.kind === 'video' ? stats.freezeCount ?? 0 : null,
    keyFrames: (inbound ? stats.keyFramesDecoded : stats.keyFramesEncoded) ?? null,
    jitter_ms: stats.jitter === undefined ? null : stats.jitter * 1000,
    limitedBy: ['cpu', 'bandwidth'].includes(stats.qualityLimitationReason) ? stats.qualityLimitationReason : null,
  };
}

function selectedPair(report) {
  let nominated = null;
  for (const stats of report.values()) {
    if (stats.type === 'transport' && stats.selectedCandidatePairId) return report.get(stats.selectedCandidatePairId);
    if (stats.type === 'candidate-pair' && stats.nominated && stats.state === 'succeeded') nominated = stats;
  }
  return nominated;
}
