// IPv6 alone: the page, its WebSocket and its media over [::1].

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { playByWhep } from './support/raw.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

/** The address of the server that a connection sends to. */
function remoteAddress(pcOf) {
  return `(async () => {
    const report = await ${pcOf}.getStats();
    const transport = [...report.values()].find(({ type }) => type === 'transport');
    return report.get(report.get(transport.selectedCandidatePairId).remoteCandidateId).address;
  })()`;
}

scenario('everything goes over IPv6: page, signaling, media, recording', async (stage) => {
  const server = await stage.serveOnIpv6();
  assert.match(server.url, /^http:\/\/\[::1\]:\d+$/);
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.open({ codec: 'H264' });
  await broadcaster.start();
  await broadcaster.waitRecording('started');
  const viewer = new Viewer(await stage.tab('viewer'));
  await viewer.open('lobby');
  await viewer.waitPlaying('lobby/ada');
  for (const [tab, role] of [[broadcaster.tab, 'publisher'], [viewer.tab, 'viewer']]) {
    assert.equal(await tab.page.evaluate(remoteAddress(`window.onair.${role}.pc`)), '::1', role);
  }
  const player = await stage.tab('viewer');
  await player.openBlank();
  const played = await player.page.evaluate(playByWhep, { path: '/whep/lobby/ada' });
  assert.equal(played.status, 201);
  await broadcaster.stop();
  await until('the recording is finished', async () => {
    const [recording] = await server.api('/api/recordings');
    return recording.path.endsWith('.mp4') && !recording.path.endsWith('.part.mp4');
  });
});
