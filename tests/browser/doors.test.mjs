// The other doors: WHIP and WHEP, as a page of anybody's making uses them.

import assert from 'node:assert/strict';
import { countersOf, deleteResource, playByWhep, publishByWhip } from './support/raw.mjs';
import { scenario } from './support/scenario.mjs';
import { until } from './support/until.mjs';
import { Viewer } from './support/viewer.mjs';

scenario('WHIP publishes, the page and WHEP play it, DELETE ends each', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const publisher = await stage.tab('broadcaster');
  const player = await stage.tab('viewer');
  const viewer = new Viewer(await stage.tab('viewer'));
  const counters = (tab, name) => tab.page.evaluate(countersOf, name);
  await viewer.open('lobby', 'ada');
  await viewer.waitWaiting();

  await publisher.openBlank();
  const published = await publisher.page.evaluate(publishByWhip, { path: '/whip/lobby/ada', codec: 'H264' });
  assert.equal(published.status, 201);
  assert.equal(published.type, 'application/sdp');
  assert.match(published.location, /^\/whip\/lobby\/ada\/[\w-]{16,}$/);
  await viewer.waitPlaying('lobby/ada');

  await player.openBlank();
  const played = await player.page.evaluate(playByWhep, { path: '/whep/lobby/ada' });
  assert.equal(played.status, 201);
  assert.match(played.location, /^\/whep\/lobby\/ada\/[\w-]{16,}$/);
  await until('the WHEP player decodes', async () => {
    const { connection, video, audio } = await counters(player, 'whep');
    if (video?.framesDecoded > 30 && audio?.totalSamplesReceived > 48_000) return true;
    throw new Error(`${connection}, ${JSON.stringify(video)}, ${JSON.stringify(audio)}`);
  });
  assert.equal((await counters(player, 'whep')).streams, 1, 'picture and sound come in one stream');
  const [live] = await server.api('/api/broadcasts');
  assert.equal(live.id, 'lobby/ada');
  await until('both viewers are counted', async () => (await server.api('/api/broadcasts'))[0].viewers === 2);

  assert.equal(await player.page.evaluate(deleteResource, 'whep'), 200);
  await until('the player is disconnected', async () => ['closed', 'disconnected', 'failed'].includes((await counters(player, 'whep')).connection));
  await viewer.waitPlaying('lobby/ada');

  assert.equal(await publisher.page.evaluate(deleteResource, 'whip'), 200);
  await viewer.waitWaiting();
  assert.deepEqual(await server.api('/api/broadcasts'), []);
  // The second DELETE finds nothing; the browser reports the 404 on its console.
  publisher.expectErrors(/404/);
  assert.equal(await publisher.page.evaluate(deleteResource, 'whip'), 404);
});

scenario('WHEP for what is not live is refused with a problem document', async (stage) => {
  await stage.serve('--record', 'off');
  const player = await stage.tab('viewer');
  player.expectErrors(/404|409/);
  await player.openBlank();
  const said = await player.page.evaluate(playByWhep, { path: '/whep/lobby/nobody' });
  assert.ok([404, 409].includes(said.status), `status ${said.status}`);
  assert.match(said.type, /^application\/problem\+json/);
});
