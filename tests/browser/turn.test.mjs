// TURN: clients whom no other way leads here, through a real coturn with the logins that the server made for them.

import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { Broadcaster } from './support/broadcaster.mjs';
import { countersOf, playByWhep } from './support/raw.mjs';
import { scenario } from './support/scenario.mjs';
import { Turn } from './support/turn.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

const SECRET = 'a secret of the test: 0123456789';

/** The local candidate in use by `window.onair.publisher` or `.viewer`, or by `window.whep`: { candidateType, relayProtocol, … }. */
function localCandidate(tab, owner) {
  return tab.page.evaluate(async (name) => {
    const { pc } = window.onair?.[name] ?? window[name];
    const report = await pc.getStats();
    // Firefox has no transport's statistics, and marks the pair instead.
    const transport = [...report.values()].find(({ type }) => type === 'transport');
    const pair = [...report.values()].find(({ type, id, selected }) => type === 'candidate-pair' && (transport ? id === transport.selectedCandidatePairId : selected));
    return report.get(pair.localCandidateId);
  }, owner);
}

/** Runs `body` with a coturn on `ip`, and the secret where servers and scripts find it: not on a command line, as its help says. */
async function withTurn(ip, body) {
  const turn = await Turn.start(SECRET, ip);
  process.env.ONAIR_TURN_SECRET = SECRET;
  try {
    await body(turn);
  } catch (error) {
    process.stderr.write(`--- coturn\n${turn.log.split('\n').slice(-60).join('\n')}\n`);
    throw error;
  } finally {
    delete process.env.ONAIR_TURN_SECRET;
    await turn.clear();
  }
}

scenario('whoever has no way but a relay publishes and watches through TURN', async (stage) => {
  await withTurn('127.0.0.1', async (turn) => {
    const url = `turn:${turn.address}`;
    const server = await stage.serve('--stun', `stun:${turn.address}`, '--turn', `${url}?transport=udp`, '--turn', `${url}?transport=tcp`);
    const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'stage', 'ada');
    const viewer = new Viewer(await stage.tab('viewer'));
    const player = await stage.tab('viewer');
    for (const tab of [broadcaster.tab, viewer.tab, player]) await tab.useRelayAlone();

    await broadcaster.open({ codec: 'VP8' });
    await broadcaster.start();
    await viewer.open('stage', 'ada');
    await viewer.waitPlaying('stage/ada');
    for (const [tab, role] of [[broadcaster.tab, 'publisher'], [viewer.tab, 'viewer']]) {
      assert.equal((await localCandidate(tab, role)).candidateType, 'relay', role);
    }

    // A WHEP player that takes the servers of OPTIONS, before its offer, and of those the one behind TCP.
    await player.openBlank();
    await player.page.evaluate(async () => {
      const links = (await fetch('/whep/stage/ada', { method: 'OPTIONS' })).headers.get('link').split(', ');
      const [link] = links.filter((candidate) => candidate.includes('?transport=tcp>'));
      const [, urls, username, credential] = /^<(.*)>; rel="ice-server"; username="(.*?)"; credential="(.*?)"/.exec(link);
      const Relayed = RTCPeerConnection;
      window.RTCPeerConnection = class extends Relayed {
        constructor(configuration) {
          super({ ...configuration, iceServers: [{ urls, username, credential }] });
        }
      };
    });
    const played = await player.page.evaluate(playByWhep, { path: '/whep/stage/ada' });
    assert.equal(played.status, 201);
    await until('the WHEP player decodes', async () => (await player.page.evaluate(countersOf, 'whep')).video?.framesDecoded > 15);
    const candidate = await localCandidate(player, 'whep');
    assert.deepEqual([candidate.candidateType, candidate.relayProtocol], ['relay', 'tcp']);

    const users = turn.users();
    assert.equal(users.length, 3, `each has a login of its own: ${users}`);
    for (const user of users) {
      const left_s = Number(user.split(':')[0]) - Date.now() / 1000;
      assert.ok(left_s > 86_000 && left_s <= 86_400, user);
    }
    assert.doesNotMatch(await server.log(10_000), /0123456789/);
  });
});

scenario('Firefox watches through TURN', async (stage) => {
  // It pairs no address of its own with 127.0.0.1.
  const own = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === 'IPv4' && !internal);
  assert.ok(own, 'Firefox needs this machine to have an IPv4 address other than 127.0.0.1');
  await withTurn(own.address, async (turn) => {
    await stage.serveEverywhere('--record', 'off', '--turn', `turn:${turn.address}`);
    const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'stage', 'ada');
    await broadcaster.open({ codec: 'VP8' });
    await broadcaster.start();
    const viewer = new Viewer(await stage.tab('firefox'));
    await viewer.tab.useRelayAlone();
    await viewer.open('stage', 'ada');
    await viewer.waitPlaying('stage/ada');
    assert.equal((await localCandidate(viewer.tab, 'viewer')).candidateType, 'relay');
  });
});
