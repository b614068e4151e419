// Smoothness: does a picture run without a freeze, and if not, is it the server's fault?
//
// A test machine that is short of CPU freezes pictures by itself: the broadcaster encodes too slowly, the viewer decodes
// too late. So each span is watched together with the machine: a freeze in a span where the machine kept up is a fault; a
// freeze in a starved span says nothing, and the span is watched anew. What a starved machine cannot excuse is asserted in
// every span: nothing was lost on the way, and as many frames came to each viewer as left the broadcaster.

import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { observe } from './until.mjs';

const SPANS_MAX = 6;
const SAMPLE_EVERY_MS = 250;
/** A process that does nothing but wait is woken later than this only when others hold every core. */
const LATE_WAKING_MS = 60;
/** Of the frames that the camera delivers, an encoder that keeps up sends nearly all. */
const FRAMES_KEPT = 0.9;
/** Frames on their way, and those between two readings of statistics that are not taken at one instant. */
const FRAMES_IN_FLIGHT = 12;
const LOSS_MAX = 0.001;

/**
 * Watches `viewers` ({ viewer, id }) of one broadcaster for `span_ms`, at most SPANS_MAX times, until a span of a machine
 * that keeps up was seen. `crowd`: a Crowd that watches the same broadcast, and is judged as they are.
 */
export async function assertSmooth(stage, broadcaster, viewers, { span_ms = 8000, crowd = null } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const span = await watch(broadcaster, viewers, { span_ms, crowd });
    const told = assertArrived(stage, span);
    const frozen = span.viewers.filter(({ freezes }) => freezes > 0);
    if (frozen.length === 0 && span.sent > 0) return span;
    assert.ok(span.starved, `a freeze while the machine kept up: ${told}`);
    assert.ok(attempt < SPANS_MAX, `the machine never kept up for ${span_ms / 1000} s, in ${attempt} tries: ${told}. Run the browser tests with less beside them.`);
  }
}

/** Asserts what a starved machine does not excuse, and notes what was seen; returns that in one line. */
export function assertArrived(stage, span, { loss_max = LOSS_MAX } = {}) {
  for (const seen of span.viewers) {
    const share = seen.lost / Math.max(1, seen.packets);
    assert.ok(share <= loss_max, `${seen.name}: ${seen.lost} of ${seen.packets} packets lost`);
    assert.ok(Math.abs(seen.frames - span.sent) <= FRAMES_IN_FLIGHT, `${seen.name}: ${seen.frames} frames came of ${span.sent} sent`);
  }
  const told = `${span.sent} frames sent in ${(span.span_ms / 1000).toFixed(0)} s, ${span.viewers.length} viewers froze ${span.viewers.reduce((sum, { freezes }) => sum + freezes, 0)} times; ${span.machine}`;
  stage.note(told);
  for (const seen of span.viewers) stage.note(`${seen.name}: ${seen.frames} frames, ${seen.freezes} freezes, ${seen.lost} of ${seen.packets} packets lost`);
  return told;
}

/** What the viewers and the machine did in one span of that length. */
export async function watch(broadcaster, viewers, { span_ms, crowd = null }) {
  const waking = monitorEventLoopDelay({ resolution: 10 });
  const [sentBefore, , ...before] = await Promise.all([broadcaster.sent(), crowd?.take(), ...viewers.map(({ viewer, id }) => viewer.received(id))]);
  waking.enable();
  let limited = null;
  let slowest = 1;
  let last = sentBefore;
  for (const end = performance.now() + span_ms; performance.now() < end;) {
    await observe(SAMPLE_EVERY_MS);
    const now = await broadcaster.sent();
    if (now.video.qualityLimitationReason === 'cpu') limited = 'cpu';
    if (now.at_ms - last.at_ms < 1000) continue;
    const kept = (now.video.framesSent - last.video.framesSent) / ((now.at_ms - last.at_ms) / 1000 * now.camera_fps);
    slowest = Math.min(slowest, kept);
    last = now;
  }
  waking.disable();
  const [sentAfter, crowded, ...after] = await Promise.all([broadcaster.sent(), crowd?.take(), ...viewers.map(({ viewer, id }) => viewer.received(id))]);
  const late_ms = waking.max / 1e6;
  const starved = late_ms > LATE_WAKING_MS || slowest < FRAMES_KEPT || limited === 'cpu';
  return {
    sent: sentAfter.video.framesSent - sentBefore.video.framesSent,
    span_ms,
    starved,
    machine: `the machine ${starved ? 'did not keep up' : 'kept up'} (woken up to ${late_ms.toFixed(0)} ms late, encoder at ${Math.round(slowest * 100)} % at its slowest, limited by ${limited ?? 'nothing'})`,
    viewers: [...viewers.map(({ viewer, id }, index) => {
      const gain = (name) => after[index].video[name] - before[index].video[name];
      return {
        name: `${viewer.tab.name}, ${id}`,
        frames: gain('framesReceived'), freezes: gain('freezeCount'), packets: gain('packetsReceived'),
        // What was asked for again and came counts as received.
        lost: Math.max(0, gain('packetsLost')),
      };
    }), ...(crowded ?? []).map((seen, index) => ({ ...seen, name: `str0m ${index + 1}`, lost: Math.max(0, seen.lost) }))],
  };
}
