// A room as a wall: broadcasters come and go, viewers choose. Takeovers and reloads.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

const SMALL = { quality: '480' };

scenario('a wall grows and shrinks with the room, and shows what its viewer chose', async (stage) => {
  await stage.serve('--record', 'off');
  const ada = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const bob = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'bob');
  const first = new Viewer(await stage.tab('viewer'));
  const second = new Viewer(await stage.tab('viewer'));

  await first.open('lobby');
  await first.waitWaiting();
  await ada.open({ codec: 'VP8', ...SMALL });
  await ada.start();
  await first.waitTiles(['lobby/ada']);
  await first.waitPlaying('lobby/ada');

  await bob.open({ codec: 'H264', ...SMALL });
  await bob.start();
  await first.waitTiles(['lobby/ada', 'lobby/bob']);
  await first.waitPlaying('lobby/bob');
  await first.waitPlaying('lobby/ada');
  await first.tab.waitText('watch-state', /^Live · 2 broadcasts$/);

  await second.open('lobby');
  await second.waitTiles(['lobby/ada', 'lobby/bob']);
  await Promise.all(['lobby/ada', 'lobby/bob'].map((id) => second.waitPlaying(id)));

  // What one viewer leaves out, the other goes on seeing.
  await first.tab.page.locator('[data-testid="choice-box"][data-choice="lobby/bob"]').click();
  await first.waitTiles(['lobby/ada']);
  await first.waitPlaying('lobby/ada');
  await second.waitPlaying('lobby/bob');
  await until('bob has one viewer left', async () => (await bob.tab.session('publisher')).viewers === 1);
  await first.tab.page.locator('[data-testid="choice-box"][data-choice="lobby/bob"]').click();
  await first.waitTiles(['lobby/ada', 'lobby/bob']);
  await first.waitPlaying('lobby/bob');

  // The m-lines of who left are used again by who returns.
  const linesOf = () => first.tab.page.evaluate(() => window.onair.viewer.pc.getTransceivers().length);
  const lines = await linesOf();
  await ada.stop();
  for (const viewer of [first, second]) {
    await viewer.waitTiles(['lobby/bob']);
    await viewer.waitPlaying('lobby/bob');
  }
  await ada.start();
  for (const viewer of [first, second]) {
    await viewer.waitTiles(['lobby/ada', 'lobby/bob']);
    await viewer.waitPlaying('lobby/ada');
    await viewer.waitPlaying('lobby/bob');
  }
  assert.equal(await linesOf(), lines, 'm-lines of the viewer');

  await bob.stop();
  await ada.stop();
  for (const viewer of [first, second]) await viewer.waitWaiting();
});

scenario('a second tab under the same name takes over; the first is told and stays away', async (stage) => {
  await stage.serve('--record', 'off');
  const older = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const newer = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitWaiting();
  await older.open({ codec: 'VP8', ...SMALL });
  await older.start();
  await viewer.waitPlaying('lobby/ada');

  await newer.open({ codec: 'VP8', ...SMALL });
  await newer.start();
  const session = await older.tab.waitSession('publisher', 'has ended', ({ state }) => state === 'ended');
  assert.equal(session.problem.code, 'name-taken');
  await older.tab.waitText('problem', /taken over/);
  assert.notEqual(await older.tab.text('start'), null, 'it may start again, by hand');

  await until('the viewer heard of it', async () => (await viewer.tab.log('viewer')).some((line) => /lobby\/ada starts anew/.test(line)));
  await viewer.waitPlaying('lobby/ada');
  await viewer.waitPlaying('lobby/ada');
  // All this while, the older one kept away.
  const after = await older.tab.session('publisher');
  assert.deepEqual([after.state, after.retryAt], ['ended', null]);
  assert.equal((await newer.tab.session('publisher')).state, 'connected');
  await newer.stop();
});

scenario('a reloaded broadcaster comes back to its viewers', async (stage) => {
  await stage.serve('--record', 'off');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitWaiting();
  await broadcaster.tab.open('/publish?room=lobby&user=ada&codec=H264&quality=480&auto=1');
  await broadcaster.onAir();
  await viewer.waitPlaying('lobby/ada');

  await broadcaster.tab.page.reload();
  // `auto=1` starts by itself; a closed WebSocket had ended the session at once, so nothing is taken over.
  await broadcaster.onAir();
  await until('the viewer heard of the end and of the return', async () => {
    const log = await viewer.tab.log('viewer');
    const left = log.findIndex((line) => /lobby\/ada left/.test(line));
    return left >= 0 && log.slice(left).some((line) => /lobby\/ada is live/.test(line));
  });
  await viewer.waitPlaying('lobby/ada');
});

scenario('a reloaded viewer plays again and counts once', async (stage) => {
  await stage.serve('--record', 'off');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  await broadcaster.open({ codec: 'H264', ...SMALL });
  await broadcaster.start();
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  await broadcaster.tab.waitText('viewers', /^1 viewer$/);
  for (let reload = 1; reload <= 2; reload += 1) {
    await viewer.tab.page.reload();
    await viewer.waitPlaying('lobby/ada');
  }
  await broadcaster.tab.waitText('viewers', /^1 viewer$/);
  await viewer.tab.page.goto('about:blank');
  await broadcaster.tab.waitText('viewers', /^0 viewers$/);
});

scenario('a network that changes: ICE restarts on both sides, the session and the picture go on', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  await broadcaster.open({ codec: 'H264', ...SMALL });
  await broadcaster.start();
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  const since = (await server.api('/api/broadcasts'))[0].since;
  for (const [tab, role] of [[viewer.tab, 'viewer'], [broadcaster.tab, 'publisher']]) {
    const credentials = () => tab.page.evaluate((name) => /a=ice-ufrag:(\S+)/.exec(window.onair[name].pc.currentLocalDescription.sdp)[1], role);
    const before = await credentials();
    // What a browser says when it is on another network.
    await tab.page.evaluate(() => { window.dispatchEvent(new Event('online')); });
    await until(`${role}: media is back`, async () => (await tab.log(role)).includes('Media is back'));
    assert.notEqual(await credentials(), before, `${role}: ICE has restarted`);
    await viewer.waitPlaying('lobby/ada');
    assert.equal((await tab.log(role)).filter((line) => /Disconnected/.test(line)).length, 0);
  }
  assert.equal((await server.api('/api/broadcasts'))[0].since, since, 'it is the same broadcast');
});
