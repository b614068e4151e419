// Replay: a recording in the page's own player, with seeking.

import assert from 'node:assert/strict';
import { until } from './until.mjs';

/** Plays `path` ("room/user/file.mp4") on the recordings route, seeks forward and back, and sees pictures after each. */
export async function assertPlaysInPage(tab, path) {
  await tab.open(`/recordings?play=${encodeURIComponent(path)}`);
  const { duration_s } = await until(`${path} plays`, async () => {
    const state = await player(tab);
    if (state.error) throw Object.assign(new Error(state.error), { hopeless: true });
    return state.currentTime > 0.5 && state.frames > 5 && state;
  });
  assert.ok(Number.isFinite(duration_s) && duration_s > 1, `its duration is ${duration_s}`);
  for (const share of [0.8, 0.2]) {
    const target_s = duration_s * share;
    const before = (await player(tab)).frames;
    await tab.page.$eval('[data-testid="player"]', (video, to) => { video.currentTime = to; }, target_s);
    await until(`${path} plays on from ${target_s.toFixed(1)} s`, async () => {
      const { seeking, currentTime, frames } = await player(tab);
      return !seeking && currentTime > target_s && currentTime < target_s + 10 && frames > before;
    });
  }
}

function player(tab) {
  return tab.page.$eval('[data-testid="player"]', (video) => ({
    currentTime: video.currentTime, duration_s: video.duration, seeking: video.seeking, error: video.error?.message ?? null,
    width: video.videoWidth, frames: video.getVideoPlaybackQuality().totalVideoFrames,
  }));
}
