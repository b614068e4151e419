// The page itself: by keyboard alone, on a phone, and its words when something is wrong.
//
// That no page has console errors or breaks its content security policy is asserted by every scenario. A page outside a
// secure context cannot be had here: 127.0.0.1 is secure by definition, and no test leaves it.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { finishedOnes } from './support/recording.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

const TABS_MAX = 60;

scenario('by hand: fields are typed, buttons pressed, links followed', async (stage) => {
  await stage.serve('--record', 'off');
  const tab = await stage.tab('broadcaster');
  await tab.open('/');
  await tab.waitText('live', /Nothing is live/);
  await tab.click('go-publish');
  await tab.fill('room', 'no such room!');
  await tab.fill('user', 'ada');
  await tab.click('start');
  await tab.waitText('form-error', /Room: /);
  assert.equal(await tab.session('publisher'), null);
  await tab.fill('room', 'lobby');
  await tab.choose('codec', 'VP8');
  await tab.choose('quality', '480');
  const broadcaster = new Broadcaster(tab, 'lobby', 'ada');
  await broadcaster.start();
  assert.equal(await tab.page.$eval('[data-testid="watch-link"]', ({ value }) => value), `${stage.server.url}/#/watch/lobby/ada`);
  assert.ok(await tab.page.$eval('[data-testid="room"]', ({ disabled }) => disabled), 'names cannot be changed on air');

  // Another view does not end the broadcast.
  await tab.page.locator('[data-nav="home"]').click();
  await tab.waitText('on-air-pill', /lobby\/ada/);
  await tab.waitText('live-card', /ada/);
  await tab.waitText('live', /VP8/);

  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.tab.open('/');
  await viewer.tab.waitText('live-card', /ada/);
  await viewer.tab.fill('home-room', 'lobby');
  await viewer.tab.click('go-watch');
  await viewer.waitPlaying('lobby/ada');
  // Sound off and on.
  await viewer.tab.click('tile-mute');
  assert.equal((await viewer.received('lobby/ada')).element.muted, true);
  await viewer.tab.click('tile-mute');
  assert.equal((await viewer.received('lobby/ada')).element.muted, false);
  // A hidden picture is black at the viewer, and goes on flowing.
  await tab.click('on-air-pill');
  await tab.click('hide-picture');
  await until('the viewer sees black', () => viewer.tab.page.$eval('[data-testid="video"]', (video) => {
    const canvas = new OffscreenCanvas(16, 9).getContext('2d');
    canvas.drawImage(video, 0, 0, 16, 9);
    return canvas.getImageData(0, 0, 16, 9).data.every((value, index) => index % 4 === 3 || value < 24);
  }));
  await viewer.waitPlaying('lobby/ada');
  await broadcaster.stop();
  await viewer.waitWaiting();
});

scenario('by keyboard: every main control is reached with Tab and seen, Enter starts and stops', async (stage) => {
  await stage.serve('--record', 'off');
  const tab = await stage.tab('broadcaster');
  await tab.open('/');
  await tab.waitText('live', /Nothing is live/);
  assertReached(await tabThrough(tab), ['go-publish', 'home-room', 'go-watch'], 'home');

  await tab.open('/publish?room=lobby&user=ada&codec=VP8&quality=480');
  await tab.waitText('start', /Start/);
  assertReached(await tabThrough(tab), ['start', 'room', 'user', 'source-camera', 'send-video', 'send-audio', 'camera', 'microphone', 'quality', 'codec'], 'publish');
  // Enter in a field starts, as the button does.
  await tab.page.focus('[data-testid="user"]');
  await tab.page.keyboard.press('Enter');
  await new Broadcaster(tab, 'lobby', 'ada').onAir();
  assertReached(await tabThrough(tab), ['stop', 'mute-mic', 'hide-picture', 'record', 'watch-link', 'copy-link'], 'publish, on air');

  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  assertReached(await tabThrough(viewer.tab), ['tile-mute', 'tile-fullscreen'], 'watch');

  await tab.page.focus('[data-testid="stop"]');
  await tab.page.keyboard.press('Enter');
  await tab.waitSession('publisher', 'has ended', ({ state }) => state === 'ended');
});

scenario('on a phone: no route is wider than the screen, with and without media', async (stage) => {
  const server = await stage.serve();
  const broadcaster = new Broadcaster(await stage.tab('broadcaster', { phone: true }), 'a-room-with-a-rather-long-name', 'somebody-with-a-long-name-too');
  const phone = new Viewer(await stage.tab('viewer', { phone: true }));
  await broadcaster.open({ codec: 'H264', quality: '480' });
  await broadcaster.tab.waitText('start', /Start/);
  await assertFits(broadcaster.tab, 'publish');
  await phone.open('a-room-with-a-rather-long-name');
  await phone.waitWaiting();
  await assertFits(phone.tab, 'watch, waiting');
  await broadcaster.start();
  await broadcaster.waitRecording('started');
  await assertFits(broadcaster.tab, 'publish, on air');
  await phone.waitPlaying(broadcaster.id);
  await assertFits(phone.tab, 'watch, a room');
  await phone.open('a-room-with-a-rather-long-name', 'somebody-with-a-long-name-too');
  await phone.waitPlaying(broadcaster.id);
  await assertFits(phone.tab, 'watch, one');
  await phone.tab.open('/');
  await phone.tab.waitText('live-card', /somebody/);
  await assertFits(phone.tab, 'home');
  await broadcaster.stop();
  const [path] = await finishedOnes(server, 1);
  await phone.tab.open(`/recordings?play=${encodeURIComponent(path)}`);
  await phone.tab.page.waitForSelector('[data-testid="player"]');
  await assertFits(phone.tab, 'recordings');
  await phone.tab.open('/nothing/here');
  await assertFits(phone.tab, 'missing');
});

scenario('many recordings come in pages, and a link to an old one finds it', async (stage) => {
  await stage.serve('--record', 'off');
  const tab = await stage.tab('viewer');
  // A server with 120 recordings.
  await tab.page.evaluateOnNewDocument(() => {
    const plain = window.fetch;
    const two = (number) => String(number).padStart(2, '0');
    const all = Array.from({ length: 120 }, (_, index) => {
      const at = `${two(20 - Math.floor(index / 60))}${two(59 - (index % 60))}`;
      return { path: `lobby/ada/20260131-${at}00.mp4`, broadcast: 'lobby/ada', started: `2026-01-31T${at.slice(0, 2)}:${at.slice(2)}:00Z`, duration_s: 61.5, size_bytes: 4096 };
    });
    window.asked = [];
    window.fetch = async (path, options) => {
      if (!String(path).startsWith('/api/recordings?')) return plain(path, options);
      window.asked.push(path);
      const query = new URLSearchParams(String(path).split('?')[1]);
      const [from, limit] = [Number(query.get('before') ?? 0), Number(query.get('limit'))];
      const link = from + limit < all.length ? { link: `</api/recordings?limit=${limit}&before=${from + limit}>; rel="next"` } : {};
      return new Response(JSON.stringify(all.slice(from, from + limit)), { headers: { 'content-type': 'application/json', ...link } });
    };
  });
  const rows = (count) => until(`${count} are shown`, async () => (await tab.page.$$('[data-testid="recording"]')).length === count);
  await tab.open('/recordings');
  await rows(50);
  for (const count of [100, 120]) {
    await tab.click('more-recordings');
    await rows(count);
  }
  await tab.waitText('more-recordings', null);
  assert.equal(await tab.page.evaluate(() => new Set([...document.querySelectorAll('[data-testid="recording"]')].map(({ dataset }) => dataset.path)).size), 120);

  tab.expectErrors(/404/);
  const oldest = 'lobby/ada/20260131-190000.mp4';
  await tab.open(`/recordings?play=${encodeURIComponent(oldest)}`);
  await rows(50);
  await until('the player has it', () => tab.page.$eval('[data-testid="player"]', (video, path) => video.getAttribute('src').endsWith(path), oldest));
  assert.ok((await tab.page.evaluate(() => window.asked)).some((path) => /room=lobby&user=ada&limit=1000/.test(path)));
});

scenario('a refused camera is explained, and nothing goes on air', async (stage) => {
  await stage.serve('--record', 'off');
  const tab = await stage.tab('refusing');
  await new Broadcaster(tab, 'lobby', 'ada').open();
  await tab.click('start');
  await tab.waitText('problem', /may not use the camera and microphone.*Allow it/s);
  assert.equal(await tab.session('publisher'), null);
  assert.notEqual(await tab.text('start'), null, 'start can be pressed again');
});

scenario('where UDP does not get through, the page names the addresses tried on both sides', async (stage) => {
  // The discard port: nobody answers there.
  await stage.serve('--record', 'off', '--public-ip', '127.0.0.1:9');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby', 'ada');
  await broadcaster.open({ codec: 'VP8', quality: '480' });
  await broadcaster.press();
  for (const tab of [broadcaster.tab, viewer.tab]) {
    await tab.waitText('problem', /No connection for media/);
    assert.match(await tab.text('problem'), /Open UDP port 9 /);
    assert.match(await tab.text('problem-detail'), /Server's addresses: .*127\.0\.0\.1:9.*This browser tried: \S/s);
  }
});

/** Test ids (or texts) that get the focus, in order, while Tab is pressed until it comes round. */
async function tabThrough(tab) {
  await tab.page.evaluate(() => {
    // Tab goes on from what had the focus last, also after it lost it; the body is where a page begins.
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute('tabindex');
  });
  const reached = [];
  for (let press = 0; press < TABS_MAX; press += 1) {
    await tab.page.keyboard.press('Tab');
    const focused = await tab.page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const box = element.getBoundingClientRect();
      const style = getComputedStyle(element);
      const label = element.closest('label');
      const ring = [element, label, label?.querySelector('span')].some((one) => one && getComputedStyle(one).outlineStyle !== 'none');
      return { id: element.dataset.testid ?? element.textContent.trim(), seen: box.width > 0 && style.visibility === 'visible', ring };
    });
    if (focused === null || (reached.length > 0 && focused.id === reached[0].id)) break;
    reached.push(focused);
  }
  return reached;
}

function assertReached(reached, wanted, where) {
  const ids = reached.map(({ id }) => id);
  for (const id of wanted) {
    const at = reached.find((one) => one.id === id);
    assert.ok(at, `${where}: ${id} is not reached with Tab, only ${ids.join(', ')}`);
    assert.ok(at.seen && at.ring, `${where}: the focus on ${id} cannot be seen`);
  }
}

async function assertFits(tab, where) {
  const { wide, screen, culprits } = await tab.page.evaluate(() => {
    const wide = document.documentElement.scrollWidth;
    const screen = window.innerWidth;
    const culprits = wide <= screen ? [] : [...document.querySelectorAll('main *')].filter((element) => element.getBoundingClientRect().right > screen + 1).map((element) => element.className || element.tagName).slice(0, 5);
    return { wide, screen: document.documentElement.clientWidth, culprits };
  });
  assert.ok(wide <= screen, `${where}: ${wide} pixels wide on a screen of ${screen}: ${culprits.join(', ')}`);
}
