// Monitoring: a real Prometheus scrapes a real server with real media; every query of the Grafana dashboard finds something,
// every alert can be evaluated, and each one fires when it should.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Broadcaster } from '../browser/support/broadcaster.mjs';
import { scenario } from '../browser/support/scenario.mjs';
import { until } from '../browser/support/until.mjs';
import { Viewer } from '../browser/support/viewer.mjs';
import { Prometheus } from './support/prometheus.mjs';
import { metricsExported, metricsNamed, queriesOf } from './support/scraped.mjs';

const DEPLOY = resolve(fileURLToPath(import.meta.url), '../../../deploy');
const ALERT_TESTS = resolve(fileURLToPath(import.meta.url), '../alerts.test.yml');
const TOKEN = 'prometheus-0123456789';
const AUTH = `
[[anonymous]]
can = ["publish", "watch", "recordings"]

[[token]]
token = "${TOKEN}"
can = ["operate"]
`;

const deployed = (name) => readFile(join(DEPLOY, name), 'utf8');

/** Runs promtool; resolves with what it printed, throws where it found something wrong. */
function promtool(args, input = '') {
  return new Promise((done, failed) => {
    const child = execFile('promtool', args, (error, stdout, stderr) => (error ? failed(new Error(`promtool ${args.join(' ')}: ${stdout}${stderr}${error.message}`)) : done(stdout + stderr)));
    child.stdin.end(input);
  });
}

/** What a scraper gets, from a server with a certificate of its own. */
function scrape(url, accept) {
  return new Promise((done, failed) => {
    const headers = { authorization: `Bearer ${TOKEN}`, accept };
    request(`${url}/metrics`, { rejectUnauthorized: false, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => { text += part; }).on('end', () => done({ status: response.statusCode, text }));
    }).once('error', failed).end();
  });
}

/** deploy/prometheus.yml as an operator adapts it: HTTPS, a token, another address; and quicker. */
async function configuration(server, tokenFile) {
  let text = await deployed('prometheus.yml');
  for (const [from, to] of [
    ['scrape_interval: 15s', 'scrape_interval: 1s'],
    ['evaluation_interval: 15s', 'evaluation_interval: 1s'],
    ['- alerts.yml', `- ${join(DEPLOY, 'alerts.yml')}`],
    ['#scheme: https', 'scheme: https\n    tls_config: { insecure_skip_verify: true }'],
    ['#authorization:\n    #  credentials_file: /etc/prometheus/onair-token', `authorization:\n      credentials_file: ${tokenFile}`],
    ['localhost:8080', new URL(server.url).host],
  ]) {
    assert.ok(text.includes(from), `deploy/prometheus.yml lacks: ${from}`);
    text = text.replace(from, to);
  }
  return text;
}

const number = ([{ value }]) => Number(value[1]);

test('promtool finds nothing wrong with the rules and the configuration, and makes each alert fire', async () => {
  await promtool(['check', 'rules', join(DEPLOY, 'alerts.yml')]);
  await promtool(['check', 'config', join(DEPLOY, 'prometheus.yml')]);
  await promtool(['test', 'rules', ALERT_TESTS]);
  const names = [...(await deployed('alerts.yml')).matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const fired = [...(await readFile(ALERT_TESTS, 'utf8')).matchAll(/alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels/g)].map(([, name]) => name);
  assert.deepEqual([...fired].sort(), [...names].sort(), 'each alert fires in tests/operate/alerts.test.yml');
});

scenario('every query of the dashboard finds data, and every alert is evaluated', async (stage) => {
  const directory = await mkdtemp(join(tmpdir(), 'onair-operate-'));
  let prometheus = null;
  try {
    await writeFile(join(directory, 'auth.toml'), AUTH);
    await writeFile(join(directory, 'token'), TOKEN);
    const server = await stage.serve('--tls-self-signed', '--tls-dir', directory, '--auth', join(directory, 'auth.toml'));
    prometheus = await Prometheus.start(await configuration(server, join(directory, 'token')));
    const broadcaster = new Broadcaster(await stage.tab('trusting broadcaster'), 'lobby', 'ada');
    await broadcaster.open({ codec: 'H264' });
    await broadcaster.start();
    const viewer = new Viewer(await stage.tab('trusting viewer'));
    await viewer.open('lobby', 'ada');
    await viewer.waitPlaying('lobby/ada');
    await broadcaster.waitRecording('started');

    const exposition = await scrape(server.url, 'text/plain');
    assert.equal(exposition.status, 200);
    await promtool(['check', 'metrics'], exposition.text);
    const open = await scrape(server.url, 'application/openmetrics-text');
    assert.ok(open.text.endsWith('# EOF\n'));

    await until('Prometheus has scraped reports of the viewer', async () => {
      const [target] = await prometheus.targets();
      if (target.health !== 'up') throw new Error(`${target.health}: ${target.lastError}`);
      return number(await prometheus.query('min(increase(onair_viewer_round_trip_seconds_count[10s]))')) > 0;
    });

    // ---- the dashboard ----------------------------------------------------------------------------------------------
    const queries = queriesOf(JSON.parse(await deployed('grafana-dashboard.json')), { job: 'onair', window: '10s' });
    assert.ok(queries.length > 40, `only ${queries.length} queries: is the dashboard read rightly?`);
    const report = [];
    const empty = [];
    for (const { panel, expression } of queries) {
      const result = await prometheus.query(expression).catch((error) => { throw new Error(`${panel}: ${expression}: ${error.message}`); });
      if (result.length === 0) empty.push(`${panel}: ${expression}`);
      report.push(`| ${panel} | \`${expression.replaceAll('|', '\\|')}\` | ${result.map(({ value }) => value[1]).join(' ')} |`);
    }
    assert.deepEqual(empty, [], 'queries that find nothing');
    const now = async (expression) => number(await prometheus.query(expression));
    assert.equal(await now('onair_viewers'), 1);
    assert.equal(await now('onair_recordings_running'), 1);
    for (const something of [
      'rate(onair_rtp_received_bytes_total[10s])', 'rate(onair_rtp_sent_bytes_total[10s])', 'rate(onair_recording_packets_total[10s])',
      'rate(onair_hub_cpu_seconds_total[10s])', 'rate(process_cpu_seconds_total[10s])', 'process_resident_memory_bytes',
      'onair_recording_free_bytes - onair_recording_min_free_bytes', 'onair_tls_certificate_expires_seconds - time()',
      'histogram_quantile(0.5, rate(onair_forwarding_seconds_bucket[10s]))', 'histogram_quantile(0.99, rate(onair_viewer_loss_ratio_bucket[10s])) + 1',
      'histogram_quantile(0.5, rate(onair_viewer_round_trip_seconds_bucket[10s]))',
    ]) assert.ok(await now(something) > 0, something);

    // ---- the alerts -------------------------------------------------------------------------------------------------
    const rules = await until('each rule has been evaluated', async () => {
      const all = await prometheus.rules();
      return all.every(({ health }) => health !== 'unknown') && all;
    });
    assert.equal(rules.length, (await deployed('alerts.yml')).match(/- alert:/g).length);
    assert.deepEqual(rules.filter(({ health }) => health !== 'ok').map(({ name, lastError }) => `${name}: ${lastError}`), []);
    assert.deepEqual(rules.filter(({ state }) => state === 'firing').map(({ name }) => name), [], 'nothing is wrong with this server');

    // ---- names ------------------------------------------------------------------------------------------------------
    const exported = metricsExported(exposition.text);
    const named = metricsNamed([...queries.map(({ expression }) => expression), ...rules.map(({ query }) => query)]);
    assert.deepEqual([...named].filter((name) => !exported.has(name)), [], 'metrics that the server does not export');
    stage.note(`${queries.length} queries, ${rules.length} alerts, ${named.size} of ${exported.size} exported series names in use`);

    if (process.env.OPERATE_REPORT) {
      const alerts = rules.map(({ name, state, health, query }) => `| ${name} | ${health} | ${state} | \`${query.replaceAll('|', '\\|')}\` |`);
      await writeFile(process.env.OPERATE_REPORT, [
        '| panel | query | found |', '|---|---|---|', ...report, '', '| alert | health | state | query |', '|---|---|---|---|', ...alerts, '',
      ].join('\n'));
    }
  } finally {
    await prometheus?.clear();
    await rm(directory, { recursive: true, force: true });
  }
});
