// Firewalls that let no UDP pass: browsers broadcast and watch by TCP connections to the media port.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

/** 'udp' or 'tcp': what carries the media of a tab's peer connection. */
function transportOf(tab, role) {
  return tab.page.evaluate(async (name) => {
    const report = [...(await window.onair[name].pc.getStats()).values()];
    // Firefox has no transport's statistics, and marks the pair instead.
    const transport = report.find(({ type }) => type === 'transport');
    const pair = report.find(({ type, id, selected }) => type === 'candidate-pair' && (transport ? id === transport.selectedCandidatePairId : selected));
    return report.find(({ id }) => id === pair?.remoteCandidateId)?.protocol;
  }, role);
}

scenario('where no UDP passes, Chromium broadcasts by TCP, and Chromium and Firefox watch by it', async (stage) => {
  const server = await stage.serveEverywhere('--record', 'off');
  const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'lobby', 'ada');
  await broadcaster.tab.useTcpAlone();
  await broadcaster.open({ codec: 'VP8', quality: '480' });
  await broadcaster.start();
  assert.equal(await transportOf(broadcaster.tab, 'publisher'), 'tcp');
  for (const kind of ['viewer', 'firefox']) {
    const viewer = new Viewer(await stage.tab(kind));
    await viewer.tab.useTcpAlone();
    await viewer.open('lobby', 'ada');
    await viewer.waitPlaying('lobby/ada');
    assert.equal(await transportOf(viewer.tab, 'viewer'), 'tcp', kind);
  }
  // Who can, uses UDP.
  const free = new Viewer(await stage.tab('viewer'));
  await free.open('lobby', 'ada');
  await free.waitPlaying('lobby/ada');
  assert.equal(await transportOf(free.tab, 'viewer'), 'udp');

  const metrics = await server.metrics();
  assert.ok(metrics.get('onair_tcp_connections') >= 3, `${metrics.get('onair_tcp_connections')} connections`);
  assert.equal(metrics.get('onair_dropped_datagrams_total{cause="tcp"}'), 0);
  await broadcaster.stop();
  await until('nothing is left of the broadcast', async () => (await server.api('/api/broadcasts')).length === 0);
});
