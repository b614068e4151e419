// Stage: a server and the tabs of one scenario.
//
// Invariant: what was opened on a stage is closed with it. Browsers are shared by the stages of a process; each tab has a
// profile of its own inside them.

import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import * as browsers from './browsers.mjs';
import { Disk } from './disk.mjs';
import { Impairment } from './impairment.mjs';
import { Server } from './server.mjs';
import { Tab } from './tab.mjs';

const LAUNCHERS = {
  broadcaster: browsers.broadcasterChromium, viewer: browsers.viewerChromium,
  refusing: browsers.refusingChromium, firefox: browsers.firefox, 'trusting firefox': browsers.trustingFirefox,
  'trusting broadcaster': browsers.trustingBroadcasterChromium, 'trusting viewer': browsers.trustingViewerChromium,
};
const launched = new Map();

/** Closes all browsers. */
export async function closeBrowsers() {
  const open = [...launched.values()];
  launched.clear();
  for (const launching of open) await (await launching).close();
}

export class Stage {
  server = null;
  /** Puts a measured value into the report. */
  note;
  #tabs = [];
  #contexts = [];
  #relay = null;
  #disk = null;

  constructor(note) {
    this.note = note;
  }

  /** Starts the scenario's server. */
  async serve(...args) {
    this.server = await Server.start(args);
    return this.server;
  }

  /**
   * Starts it with the addresses of this machine's interfaces, as it has them by default. Firefox needs one: it pairs no
   * address of its own with 127.0.0.1.
   */
  async serveEverywhere(...args) {
    this.server = await Server.start(args, { udpHost: '0.0.0.0' });
    return this.server;
  }

  /** Starts it on IPv6 alone. */
  async serveOnIpv6(...args) {
    this.server = await Server.start(args, { httpHost: '[::1]', udpHost: '[::1]' });
    return this.server;
  }

  /** Starts it so that it records onto a Disk, which is returned and can be made to hang. */
  async serveOntoDisk(...args) {
    this.#disk = await Disk.mount();
    this.server = await Server.start(args, { recordings: join(this.#disk.path, 'recordings') });
    return this.#disk;
  }

  /**
   * Starts it behind an Impairment, which is returned: browsers are told that one's address alone. It is this machine's own
   * for Firefox's sake; one on an interface made for the purpose would not do, since Firefox offers none without a route
   * to the world.
   */
  async serveBehindRelay(...args) {
    const own = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === 'IPv4' && !internal);
    if (!own) throw new Error('Firefox needs this machine to have an IPv4 address other than 127.0.0.1');
    this.#relay = await Impairment.open(own.address);
    this.server = await Server.start(['--public-ip', this.#relay.address, ...args]);
    this.#relay.connect(this.server.udpPort);
    return this.#relay;
  }

  /** A new tab in a new profile: `kind` names its browser, one of LAUNCHERS. */
  async tab(kind, { phone = false, small = false } = {}) {
    const browser = await launch(kind);
    const context = await browser.createBrowserContext();
    this.#contexts.push(context);
    // A window each: a tab behind another one is hidden, and shows no frames.
    const page = await context.newPage({ type: 'window' });
    const tab = new Tab(page, `${kind} ${this.#tabs.length + 1}`, () => this.server.url);
    this.#tabs.push(tab);
    await tab.prepare({ phone, small });
    return tab;
  }

  expectNoErrors() {
    for (const tab of this.#tabs) tab.expectNoErrors();
  }

  async story() {
    const parts = await Promise.all(this.#tabs.map((tab) => tab.story()));
    if (this.server) parts.push(await this.server.log());
    return parts.join('\n');
  }

  async clear() {
    // A process that waits for the disk cannot even be killed.
    this.#disk?.goOn();
    for (const context of this.#contexts) await context.close().catch(() => { /* its browser is gone */ });
    await this.server?.clear();
    this.#relay?.close();
    await this.#disk?.clear();
  }
}

async function launch(kind) {
  const open = await launched.get(kind);
  if (open?.connected) return open;
  launched.set(kind, LAUNCHERS[kind]());
  return launched.get(kind);
}
