// Tokens, as people meet them: in a link, or typed in where the page asks for one.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broadcaster } from './support/broadcaster.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

const AUTH = `
[[token]]
token = "studio-0123456789"
can = ["publish"]
rooms = ["stage"]

[[token]]
token = "audience-0123456789"
can = ["watch", "recordings"]
rooms = ["stage"]
`;

scenario('who has no token sees nothing; a link or a typed token opens what it is for', async (stage) => {
  const directory = await mkdtemp(join(tmpdir(), 'onair-browser-auth-'));
  try {
    await writeFile(join(directory, 'auth.toml'), AUTH);
    await stage.serve('--auth', join(directory, 'auth.toml'));
    const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'stage', 'ada');
    await broadcaster.tab.open('/publish?room=stage&user=ada&codec=H264&token=studio-0123456789');
    await broadcaster.start();
    assert.ok(!broadcaster.tab.page.url().includes('token'), 'the address can be shared');

    const viewer = new Viewer(await stage.tab('viewer'));
    const { tab } = viewer;
    // Whoever may do nothing is told of no TURN servers either; browsers log each 401.
    tab.expectErrors(/401/);
    await tab.open('/');
    await until('the home page has looked', async () => /Nothing is live/.test(await tab.text('live')));
    await viewer.open('stage', 'ada');
    await until('the page says that it is refused', () => tab.page.$eval('[data-testid="problem"]', ({ dataset }) => dataset.code === 'unauthorized'));
    await tab.page.type('[data-testid="token"]', 'audience-0123456789');
    await tab.click('token-use');
    await viewer.waitPlaying('stage/ada');
    await tab.open('/');
    await until('it is listed', async () => await tab.page.$('[data-testid="live-card"][data-broadcast="stage/ada"]') !== null);

    await broadcaster.stop();
    await tab.open('/recordings');
    await until('the recording is listed', async () => await tab.page.$('[data-testid="recording"]:not([data-path$=".part.mp4"])') !== null);
    await tab.click('recording-play');
    await until('it plays', () => tab.page.$eval('[data-testid="player"]', (video) => video.currentTime > 0.2));
    await tab.open('/');
    await tab.page.$eval('[data-testid="token-details"]', (details) => { details.open = true; });
    await tab.click('token-forget');
    await until('what was listed is gone', async () => /Nothing was recorded yet/.test(await tab.text('recent')));
  } finally {
    await rm(directory, { recursive: true });
  }
});
