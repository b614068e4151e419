// Impaired: a broadcast that viewers in Chromium and Firefox watch over a bad path, beside one in Chromium over a clean
// path: what that one suffers is the machine's doing and the broadcaster's, not that of loss and repair.
//
// A test machine that is short of CPU freezes pictures and parts them from their sound by itself. So the watch is cut into
// spans, and freezes and sync are judged by those in which the machine kept up; the watch goes on until there are enough.
// What a starved machine cannot excuse is asserted of the whole watch: every frame comes, and what was lost is repaired.

import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Broadcaster } from './broadcaster.mjs';
import { BAD, CLEAN } from './impairment.mjs';
import { markDevices } from './marked.mjs';
import { median } from './marks.mjs';
import { observe } from './until.mjs';
import { Viewer } from './viewer.mjs';
import { witnessMarks } from './witness.mjs';

const ID = 'lobby/ada';
const SIZE = { width: 640, height: 360 };
const SPAN_MS = 5000;
/** The watch is given up after so many times what was asked for. */
const PATIENCE = 4;
/** A process that does nothing but wait is woken later than this only when others hold every core. */
const LATE_WAKING_MS = 60;
/** Of the frames that the camera delivers, an encoder that keeps up sends nearly all. */
const FRAMES_KEPT = 0.9;
/** Frames on their way, held until an earlier one is repaired, and those between two readings of statistics. */
const FRAMES_IN_FLIGHT = 20;
const FREEZES_MAX = 2;
/** Over two bad paths, one after the other, a packet may have to be sent again twice before it is there. */
const FREEZES_OF_BOTH_PATHS_MAX_PER_MINUTE = 3;
/**
 * By how much loss and repair may part picture and sound, beside the clean path: sound that is earlier by less goes unnoticed
 * (ITU-R BT.1359). How far they are apart over the clean path is the browsers' doing, who draw and encode without a
 * graphics card, and to be taken into account; what the server adds is measured in recordings, which no browser plays.
 */
const PARTED_MAX_MS = 45;
/** What the median of a few marks may be off by beside that of many. */
const FEW_MARKS = 30;
const PARTED_BY_FEW_MAX_MS = 100;
/** Over the clean path: sound that is earlier by less is accepted (the same). */
const APART_MAX_MS = 90;
const MISSED_MAX = 0.01;
/** A keyframe is what a viewer asks for when repair has failed. */
const KEYFRAME_REQUESTS_PER_MINUTE_MAX = 1;

/** Watches for `span_ms` of a machine that keeps up. `broadcasterToo`: the broadcaster's path is bad as well. */
export async function watchImpaired(stage, { codec, span_ms, broadcasterToo = false }) {
  const relay = await stage.serveBehindRelay('--record', 'off');
  relay.newcomers = broadcasterToo ? BAD : CLEAN;
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.tab.page.evaluateOnNewDocument(markDevices, SIZE);
  await broadcaster.open({ codec, quality: '480' });
  await broadcaster.start();
  const clean = await watching(stage, relay, 'viewer', CLEAN);
  const impaired = [await watching(stage, relay, 'viewer', BAD), await watching(stage, relay, 'firefox', BAD)];
  const viewers = [clean, ...impaired];

  const begun = await look(broadcaster, viewers);
  const asked = await stage.server.metrics();
  const kept = await watch(stage, broadcaster, viewers, span_ms);
  const ended = await look(broadcaster, viewers);
  const answered = await stage.server.metrics();

  const sent = gains(begun.sent, ended.sent);
  const watched_s = (ended.at_ms - begun.at_ms) / 1000;
  stage.note(`${codec}: ${sent.framesSent} frames in ${sent.packetsSent} packets, ${Math.round(sent.bytesSent * 8 / watched_s / 1000)} kbit/s, in ${watched_s.toFixed(0)} s, of which the machine kept up for ${kept.span_ms / 1000} s`);
  for (const [index, { name, marks, freezes }] of viewers.entries()) {
    const { video, audio } = gainsOf(begun.received[index], ended.received[index]);
    stage.note(`${name}: ${video.framesDecoded} frames decoded, ${video.freezeCount} freezes (${freezes} while the machine kept up), ${video.packetsLost} of ${sent.packetsSent} packets lost, ${video.nackCount} NACKs, `
      + `${video.retransmittedPacketsReceived ?? 'unknown'} packets came again, ${video.pliCount} keyframe requests; sound: ${(audio.concealedSamples / audio.totalSamplesReceived * 100).toFixed(1)} % concealed; `
      + `picture after sound, in ms: ${spread(marks)}`);
  }
  const gained = (name) => answered.get(name) - asked.get(name);
  const told = ['onair_nack_received_total', 'onair_rtx_sent_packets_total', 'onair_repair_missed_packets_total', 'onair_repair_capped_total',
    'onair_rtcp_received_total', 'onair_rtcp_refused_total', 'onair_pli_received_total', 'onair_pli_sent_total'];
  stage.note(`server: ${told.map((name) => `${name.replace(/^onair_|_total$/g, '')} ${gained(name)}`).join(', ')}`);
  stage.note(`relay: ${JSON.stringify(relay.counts())}`);

  for (const [index, { name, marks, freezes, path }] of viewers.entries()) {
    const { video } = gainsOf(begun.received[index], ended.received[index]);
    assert.equal(ended.received[index].video.codec, `video/${codec}`);
    assert.ok(Math.abs(video.framesDecoded - sent.framesSent) <= FRAMES_IN_FLIGHT, `${name}: ${video.framesDecoded} frames decoded of ${sent.framesSent}`);
    if (path === BAD) {
      assert.ok(video.packetsLost > 0 && video.nackCount > 0, `${name}: ${video.packetsLost} packets lost, ${video.nackCount} NACKs`);
      assert.ok(video.retransmittedPacketsReceived === undefined || video.retransmittedPacketsReceived > 0, `${name}: nothing came again`);
    }
    const freezesMax = broadcasterToo ? Math.ceil(kept.span_ms / 60_000 * FREEZES_OF_BOTH_PATHS_MAX_PER_MINUTE) : FREEZES_MAX;
    assert.ok(freezes <= freezesMax, `${name}: ${freezes} freezes`);
    assert.ok(marks.length >= kept.span_ms / 4000, `${name}: ${marks.length} flashes with their beeps`);
    const [apart_ms, clean_ms] = [marks, viewers[0].marks].map((all) => Math.round(median(all)));
    assert.ok(marks.length < FEW_MARKS || Math.abs(clean_ms) <= APART_MAX_MS, `the picture is ${clean_ms} ms after the sound over the clean path`);
    const partedMax_ms = marks.length < FEW_MARKS ? PARTED_BY_FEW_MAX_MS : PARTED_MAX_MS;
    assert.ok(Math.abs(apart_ms - clean_ms) <= partedMax_ms, `${name}: the picture is ${apart_ms} ms after the sound, ${clean_ms} ms over the clean path`);
  }
  const repaired = gained('onair_rtx_sent_packets_total');
  assert.ok(repaired > 0);
  // What the server itself still waits for, it cannot send again; it goes to the viewers when it comes.
  assert.ok(broadcasterToo || gained('onair_repair_missed_packets_total') <= repaired * MISSED_MAX);
  assert.equal(gained('onair_repair_capped_total'), 0);
  assert.equal(gained('onair_rtcp_refused_total'), 0);
  assert.ok(gained('onair_pli_received_total') <= Math.ceil(watched_s / 60 * KEYFRAME_REQUESTS_PER_MINUTE_MAX));
  if (broadcasterToo) assert.ok(sent.nackCount > 0, 'the server asked for what it missed');
}

/** A viewer whose path is `path`, with its witness. */
async function watching(stage, relay, kind, path) {
  relay.newcomers = path;
  const tab = await stage.tab(kind, { small: true });
  const viewer = new Viewer(tab);
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying(ID);
  await tab.page.evaluate(witnessMarks, ID);
  return { name: `${tab.name}, ${path === BAD ? 'bad' : 'clean'} path`, viewer, path, marks: [], freezes: 0 };
}

/** Until the machine has kept up for `span_ms`; what was seen in those spans is added to `viewers`. */
async function watch(stage, broadcaster, viewers, span_ms) {
  const waking = monitorEventLoopDelay({ resolution: 10 });
  const patience = performance.now() + span_ms * PATIENCE;
  const kept = { span_ms: 0 };
  await takeMarks(viewers);
  let before = await look(broadcaster, viewers);
  while (kept.span_ms < span_ms) {
    assert.ok(performance.now() < patience, `the machine kept up for ${kept.span_ms / 1000} s only, not for ${span_ms / 1000} s. Run this with less beside it.`);
    waking.reset();
    waking.enable();
    await observe(SPAN_MS);
    waking.disable();
    const after = await look(broadcaster, viewers);
    const marks = await takeMarks(viewers);
    const froze = viewers.map((viewer, index) => gainsOf(before.received[index], after.received[index]).video.freezeCount);
    const share = gains(before.sent, after.sent).framesSent / ((after.at_ms - before.at_ms) / 1000 * after.camera_fps);
    // A freeze over the clean path, the first viewer's, is the machine's.
    const keptUp = waking.max / 1e6 <= LATE_WAKING_MS && share >= FRAMES_KEPT && froze[0] === 0;
    if (!keptUp || froze.some((count) => count > 0)) {
      stage.note(`froze ${froze.join(', ')} times; the machine ${keptUp ? 'kept up' : 'did not keep up'} (woken up to ${(waking.max / 1e6).toFixed(0)} ms late, encoder at ${Math.round(share * 100)} %)`);
    }
    if (keptUp) {
      kept.span_ms += SPAN_MS;
      for (const [index, viewer] of viewers.entries()) {
        viewer.freezes += froze[index];
        viewer.marks.push(...marks[index]);
      }
    }
    before = after;
  }
  return kept;
}

/** All counters at about one moment. */
async function look(broadcaster, viewers) {
  const [{ at_ms, video, camera_fps }, ...received] = await Promise.all([broadcaster.sent(), ...viewers.map(({ viewer }) => viewer.received(ID))]);
  return { at_ms, sent: video, camera_fps, received };
}

/** How much later each flash was than its beep, in ms, since this was last asked. */
function takeMarks(viewers) {
  return Promise.all(viewers.map(async ({ viewer: { tab } }) => {
    const { flashes, beeps } = await tab.page.evaluate(() => ({ flashes: window.witness.flashes.splice(0), beeps: window.witness.beeps.splice(0) }));
    const apart = flashes.map((flash_ms) => beeps.map((beep_ms) => flash_ms - beep_ms).reduce((nearest, next) => (Math.abs(next) < Math.abs(nearest) ? next : nearest), Infinity));
    // Marks are two seconds apart: what is a second off has lost its other half to the span before or after.
    return apart.filter((value_ms) => Math.abs(value_ms) < 1000);
  }));
}

function gainsOf(before, after) {
  return { video: gains(before.video, after.video), audio: gains(before.audio, after.audio) };
}

function gains(before, after) {
  return Object.fromEntries(Object.entries(after).filter(([, value]) => typeof value === 'number').map(([name, value]) => [name, value - (before[name] ?? 0)]));
}

function spread(values) {
  if (values.length === 0) return 'none';
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => Math.round(sorted[Math.floor((sorted.length - 1) * share)]);
  return `median ${at(0.5)}, nine in ten from ${at(0.05)} to ${at(0.95)}, of ${values.length}`;
}
