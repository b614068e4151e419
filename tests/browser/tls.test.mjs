// HTTPS and WSS in a browser: the page, its camera and its WebSocket, and a certificate that is replaced under them.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { Broadcaster } from './support/broadcaster.mjs';
import { makePair } from './support/pair.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

/** The certificate that a new connection is shown, and the protocol that both sides agree upon. */
function shown(url, protocols = ['h2', 'http/1.1']) {
  const { hostname, port } = new URL(url);
  return new Promise((done, failed) => {
    const socket = connect({ host: hostname, port, rejectUnauthorized: false, ALPNProtocols: protocols });
    socket.once('error', failed).once('secureConnect', () => {
      const { fingerprint256 } = socket.getPeerX509Certificate();
      done({ fingerprint: fingerprint256, protocol: socket.alpnProtocol });
      socket.end();
    });
  });
}

async function broadcastTo(stage) {
  const publisher = new Broadcaster(await stage.tab('trusting broadcaster'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('trusting viewer'));
  await viewer.open('lobby', 'ada');
  await viewer.waitWaiting();
  await publisher.open({ codec: 'VP8' });
  await publisher.start();
  await viewer.waitPlaying('lobby/ada');
  return { publisher, viewer };
}

/** What the page was loaded by: h2 or http/1.1. */
const loadedBy = (tab) => tab.page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);

scenario('with a self-signed certificate a camera is published and watched by any address', async (stage) => {
  const server = await stage.serve('--record', 'off', '--tls-self-signed', '--tls-dir', 'kept');
  assert.match(server.url, /^https:/);
  const { publisher, viewer } = await broadcastTo(stage);
  for (const { tab } of [publisher, viewer]) {
    assert.equal(await tab.page.evaluate(() => window.isSecureContext), true);
    assert.equal(await loadedBy(tab), 'h2');
  }
  const kept = new X509Certificate(await readFile(join(server.directory, 'kept/self-signed.crt')));
  const { fingerprint } = await shown(server.url);
  assert.equal(fingerprint, kept.fingerprint256);
  assert.match(await server.log(), new RegExp(fingerprint), 'the log tells what people compare');
  await publisher.stop();
  await viewer.waitWaiting();
});

scenario('a certificate is replaced on disk while a broadcast goes on', async (stage) => {
  const first = await makePair('first');
  const server = await stage.serve('--record', 'off', '--tls-cert', first.cert, '--tls-key', first.key);
  try {
    const { viewer } = await broadcastTo(stage);
    assert.deepEqual(await shown(server.url), { fingerprint: first.fingerprint, protocol: 'h2' });
    assert.equal((await shown(server.url, ['http/1.1'])).protocol, 'http/1.1');
    const before = (await viewer.received('lobby/ada')).video.framesDecoded;

    const second = await first.replace('second');
    assert.notEqual(second.fingerprint, first.fingerprint);
    await until('a new connection is shown the new certificate', async () => (await shown(server.url)).fingerprint === second.fingerprint);

    // Neither session noticed: the same tiles and elements go on to count.
    const after = await viewer.waitPlaying('lobby/ada');
    assert.ok(after.video.framesDecoded > before, `${before} → ${after.video.framesDecoded} frames`);
    assert.equal(after.video.freezeCount ?? 0, 0);
    stage.note(`frames decoded before ${before}, after ${after.video.framesDecoded}`);
    // And who comes now gets in by the new one.
    const late = new Viewer(await stage.tab('trusting viewer'));
    await late.open('lobby', 'ada');
    await late.waitPlaying('lobby/ada');
  } finally {
    await first.clear();
  }
});

scenario('with a self-signed certificate Firefox publishes and watches', async (stage) => {
  const server = await stage.serveEverywhere('--record', 'off', '--tls-self-signed');
  assert.match(server.url, /^https:/);
  const publisher = new Broadcaster(await stage.tab('trusting firefox'), 'lobby', 'ada');
  const viewer = new Viewer(await stage.tab('trusting firefox'));
  await publisher.open({ codec: 'VP8' });
  await publisher.start();
  await viewer.open('lobby', 'ada');
  await viewer.waitPlaying('lobby/ada');
  for (const { tab } of [publisher, viewer]) {
    assert.equal(await tab.page.evaluate(() => window.isSecureContext), true);
    assert.equal(await loadedBy(tab), 'h2');
  }
  await publisher.stop();
  await viewer.waitWaiting();
});
