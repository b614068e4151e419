// JavaScript clients that people put into their pages, in Chromium: each publishes or plays, and ends its session.

import assert from 'node:assert/strict';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { counters, load } from './support/players.mjs';

const live = (server) => until('it is live', async () => (await server.api('/api/broadcasts'))[0]);
const over = (server) => until('it is over', async () => (await server.api('/api/broadcasts')).length === 0, { within_ms: 5000 });

function decodes(tab, frames = 30) {
  return until('frames are decoded', async () => {
    const seen = await counters(tab, 'inbound');
    if (seen.state === 'connected' && seen.video.frames > frames && seen.audio.samples > 24_000) return seen;
    throw new Error(JSON.stringify(seen));
  });
}

/** The fake camera, by the page's own clients. */
const publishers = {
  '@eyevinn/whip-web-client': {
    begin: async (endpoint) => {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
      const client = new window.clients.EyevinnPublisher({ endpoint, opts: {} });
      await client.ingest(stream);
      window.client = client;
    },
    end: () => window.client.destroy(),
  },
  'whip-whep': {
    begin: async (endpoint) => {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
      const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
      for (const track of stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
      window.client = new window.clients.MillicastPublisher();
      await window.client.publish(pc, endpoint);
    },
    end: () => window.client.stop(),
    restarts: true,
    // It closes its peer connection before it deletes its session, which ended with that.
    errors: [/404/],
  },
};

const players = {
  '@eyevinn/webrtc-player': {
    begin: async (endpoint) => {
      const video = document.body.appendChild(Object.assign(document.createElement('video'), { muted: true, playsInline: true, autoplay: true }));
      window.client = new window.clients.EyevinnPlayer({ video, type: 'whep' });
      await window.client.load(new URL(endpoint));
    },
    end: () => window.client.unload(),
  },
  'whip-whep': {
    begin: async (endpoint) => {
      const video = document.body.appendChild(Object.assign(document.createElement('video'), { muted: true, playsInline: true, autoplay: true }));
      const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
      pc.ontrack = ({ streams: [stream] }) => { video.srcObject = stream; };
      pc.addTransceiver('audio', { direction: 'recvonly' });
      pc.addTransceiver('video', { direction: 'recvonly' });
      window.client = new window.clients.MillicastPlayer();
      await window.client.view(pc, endpoint);
    },
    end: () => window.client.stop(),
    restarts: true,
    // Its first PATCH bears no If-Match; it needs none of the candidates in there.
    errors: [/404/, /428/],
  },
};

/** An ICE restart by the client's own PATCH; media goes on over it. */
async function restart(tab, direction) {
  const before = await counters(tab, direction);
  await tab.page.evaluate(() => window.client.restart());
  await until('media goes on after an ICE restart', async () => {
    const seen = await counters(tab, direction);
    if (seen.ufrag !== before.ufrag && seen.state === 'connected' && seen.video.packets > before.video.packets + 60) return seen;
    throw new Error(JSON.stringify({ before, seen }));
  });
}

for (const [publishing, playing] of [['@eyevinn/whip-web-client', '@eyevinn/webrtc-player'], ['whip-whep', 'whip-whep']]) {
  scenario(`${publishing} publishes, ${playing} plays`, async (stage) => {
    const server = await stage.serve('--record', 'off');
    const broadcaster = await stage.tab('broadcaster');
    broadcaster.expectErrors(...(publishers[publishing].errors ?? []));
    await load(broadcaster);
    await broadcaster.page.evaluate(publishers[publishing].begin, `${server.url}/whip/lobby/page`);
    const { tracks } = await live(server);
    assert.deepEqual(tracks.map(({ kind }) => kind), ['audio', 'video']);

    const viewer = await stage.tab('viewer');
    viewer.expectErrors(...(players[playing].errors ?? []));
    await load(viewer);
    await viewer.page.evaluate(players[playing].begin, `${server.url}/whep/lobby/page`);
    const { srtpCipher } = await decodes(viewer);
    stage.note(`${playing}: ${srtpCipher}, ${tracks.map(({ codec }) => codec)}`);
    if (publishers[publishing].restarts) await restart(broadcaster, 'outbound');
    if (players[playing].restarts) await restart(viewer, 'inbound');

    await viewer.page.evaluate(players[playing].end);
    await until('the player has left', async () => (await server.api('/api/broadcasts'))[0].viewers === 0, { within_ms: 5000 });
    await broadcaster.page.evaluate(publishers[publishing].end);
    await over(server);
  });
}
