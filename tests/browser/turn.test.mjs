// TURN: clients whom no other way leads here, through a real coturn with the logins that the server made for them.

import assert from 'node:assert/strict';
import { Broadcaster } from './support/broadcaster.mjs';
import { countersOf, playByWhep } from './support/raw.mjs';
import { scenario } from './support/scenario.mjs';
import { Turn } from './support/turn.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

const SECRET = 'a secret of the test: 0123456789';

/** From its next page on, the tab has no way but a relay. */
function relayOnly(tab) {
  return tab.page.evaluateOnNewDocument(() => {
    const Plain = RTCPeerConnection;
    window.RTCPeerConnection = class extends Plain {
      constructor(configuration) {
        super({ ...configuration, iceTransportPolicy: 'relay' });
      }
    };
  });
}

/** The local candidate in use: { candidateType, relayProtocol, … }. */
function localCandidate(pcOf) {
  return `(async () => {
    const report = await ${pcOf}.getStats();
    const transport = [...report.values()].find(({ type }) => type === 'transport');
    return report.get(report.get(transport.selectedCandidatePairId).localCandidateId);
  })()`;
}

scenario('whoever has no way but a relay publishes and watches through TURN', async (stage) => {
  const turn = await Turn.start(SECRET);
  try {
    const url = `turn:127.0.0.1:${turn.port}`;
    // Not on the command line, as its help says.
    process.env.ONAIR_TURN_SECRET = SECRET;
    const server = await stage.serve('--stun', `stun:127.0.0.1:${turn.port}`, '--turn', `${url}?transport=udp`, '--turn', `${url}?transport=tcp`);
    const broadcaster = new Broadcaster(await stage.tab('broadcaster'), 'stage', 'ada');
    const viewer = new Viewer(await stage.tab('viewer'));
    const player = await stage.tab('viewer');
    for (const tab of [broadcaster.tab, viewer.tab, player]) await relayOnly(tab);

    await broadcaster.open({ codec: 'VP8' });
    await broadcaster.start();
    await viewer.open('stage', 'ada');
    await viewer.waitPlaying('stage/ada');
    for (const [tab, role] of [[broadcaster.tab, 'publisher'], [viewer.tab, 'viewer']]) {
      assert.equal((await tab.page.evaluate(localCandidate(`window.onair.${role}.pc`))).candidateType, 'relay', role);
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
    const candidate = await player.page.evaluate(localCandidate('window.whep.pc'));
    assert.deepEqual([candidate.candidateType, candidate.relayProtocol], ['relay', 'tcp']);

    const users = turn.users();
    assert.equal(users.length, 3, `each has a login of its own: ${users}`);
    for (const user of users) {
      const left_s = Number(user.split(':')[0]) - Date.now() / 1000;
      assert.ok(left_s > 86_000 && left_s <= 86_400, user);
    }
    assert.doesNotMatch(await server.log(10_000), /0123456789/);
  } catch (error) {
    process.stderr.write(`--- coturn\n${turn.log.split('\n').slice(-60).join('\n')}\n`);
    throw error;
  } finally {
    delete process.env.ONAIR_TURN_SECRET;
    await turn.clear();
  }
});
