// Tab: one page in one profile, driven by what a user sees: routes, buttons, fields, and the test ids they carry.
//
// Invariant: every error of the page (console, exception, content security policy) is kept, and none is forgiven unless
// the scenario said beforehand that it would come.

import { until } from './until.mjs';

const DESKTOP = { width: 1280, height: 800 };
/** Costs little to draw where there is no graphics card. */
const SMALL = { width: 640, height: 480 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const STORY_LOG_LINES = 40;

export class Tab {
  page;
  name;
  #base;
  #errors = [];
  #expected = [];

  constructor(page, name, base) {
    this.page = page;
    this.name = name;
    this.#base = base;
  }

  async prepare({ phone, small }) {
    this.page.setDefaultTimeout(30_000);
    this.page.on('console', (message) => {
      // Browsers ask by themselves for the icon of a page that names none; the server's page does, a blank one does not.
      if (message.location()?.url?.endsWith('/favicon.ico')) return;
      if (['error', 'warn', 'assert'].includes(message.type())) this.#errors.push(`console ${message.type()}: ${message.text()} ${message.location()?.url ?? ''}`);
    });
    this.page.on('error', (error) => this.#errors.push(`crash: ${error.message}`));
    this.page.on('close', () => this.#errors.push('the tab was closed'));
    this.page.on('pageerror', (error) => this.#errors.push(`exception: ${error.message ?? error}`));
    await this.page.evaluateOnNewDocument(() => {
      document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
        console.error(`content security policy: ${violatedDirective} stopped ${blockedURI}`);
      });
    });
    await this.page.setViewport(phone ? PHONE : small ? SMALL : DESKTOP);
  }

  /** From its next page on, its peer connections have an RSA certificate, not one that the browser chooses. */
  async useRsa() {
    await this.page.evaluateOnNewDocument(() => {
      const Plain = RTCPeerConnection;
      const rsa = { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' };
      let certificate;
      window.rsaCertificate = Plain.generateCertificate(rsa).then((made) => {
        certificate = made;
        return true;
      });
      // Without the certificate, which takes a moment to make, this throws.
      window.RTCPeerConnection = class extends Plain {
        constructor(configuration) {
          super({ ...configuration, certificates: [certificate] });
          this.hasRsa = true;
        }
      };
    });
  }

  /** From its next page on, a firewall lets no UDP to the server pass: nothing is ever sent to where its UDP candidates are. */
  async useTcpAlone() {
    await this.page.evaluateOnNewDocument(() => {
      window.RTCPeerConnection = class extends RTCPeerConnection {
        setRemoteDescription({ type, sdp }) {
          return super.setRemoteDescription({ type, sdp: sdp.replace(/^a=candidate:.* udp .*\r\n/gim, '') });
        }
      };
    });
  }

  /** From its next page on, it has no way but a relay. */
  async useRelayAlone() {
    await this.page.evaluateOnNewDocument(() => {
      window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(configuration) {
          super({ ...configuration, iceTransportPolicy: 'relay' });
        }
      };
    });
  }

  /** The scenario will make this happen: messages that match are no failure. */
  expectErrors(...patterns) {
    this.#expected.push(...patterns);
  }

  expectNoErrors() {
    const unexpected = this.#errors.filter((error) => !this.#expected.some((pattern) => pattern.test(error)));
    if (unexpected.length) throw new Error(`${this.name} had errors:\n  ${unexpected.join('\n  ')}`);
  }

  /** Loads the page anew at a route: open('/watch/room/user'). */
  async open(route) {
    // Another address after # alone would only change the view of a page that is there.
    if (this.page.url().startsWith(this.#base())) await this.page.goto('about:blank');
    await this.page.goto(`${this.#base()}/#${route}`, { waitUntil: 'load' });
  }

  /** A page of the server's origin without any script: for raw WebSockets and peer connections. */
  async openBlank() {
    await this.page.goto(`${this.#base()}/healthz`, { waitUntil: 'load' });
  }

  async click(testid) {
    await this.page.locator(at(testid)).click();
  }

  /** Clicks it as it is now, disabled or not; throws when it is not shown. */
  async press(testid) {
    await this.page.click(at(testid));
  }

  /** Replaces what a text field holds. */
  async fill(testid, text) {
    await this.page.locator(at(testid)).fill(text);
  }

  async choose(testid, value) {
    await this.page.waitForSelector(at(testid));
    await this.page.select(at(testid), value);
  }

  /** What stands there; null when it is not there or not shown. */
  text(testid) {
    return this.page.$$eval(at(testid), (found) => {
      const element = found.find((candidate) => candidate.checkVisibility());
      return element ? element.textContent.trim() : null;
    });
  }

  /** Waits for a text to be shown; `pattern` is a RegExp or null for "not shown". */
  waitText(testid, pattern, options) {
    return until(`${this.name}: ${testid} shows ${pattern}`, async () => {
      const text = await this.text(testid);
      if (pattern === null ? text === null || text === '' : text !== null && pattern.test(text)) return { text };
      throw new Error(`it shows ${JSON.stringify(text)}`);
    }, options);
  }

  /** The running session of 'publisher' or 'viewer' as the page exposes it: { state, … } or null. */
  session(role) {
    return this.page.evaluate((name) => window.onair?.[name]?.session ?? null, role);
  }

  waitSession(role, what, accept, options) {
    return until(`${this.name}: ${role} ${what}`, async () => {
      const session = await this.session(role);
      if (session !== null && accept(session)) return session;
      throw new Error(`it is ${JSON.stringify(session)}`);
    }, options);
  }

  /** The texts of the session's event log. */
  async log(role) {
    const entries = await this.page.evaluate((name) => window.onair?.[name]?.log ?? [], role);
    return entries.map(({ text }) => text);
  }

  /** All it knows, for whoever has to find out why a test failed. */
  async story() {
    const seen = await this.page.evaluate(() => {
      const of = (session) => session && { session: session.session, log: session.log.map(({ at, text }) => `${at.toISOString().slice(11, 23)} ${text}`) };
      return { url: location.href, publisher: of(window.onair?.publisher ?? null), viewer: of(window.onair?.viewer ?? null), problem: document.querySelector('[data-testid=problem]:not([hidden])')?.textContent };
    }).catch((error) => ({ gone: error.message }));
    const lines = [`--- ${this.name} at ${seen.url ?? seen.gone}`];
    for (const role of ['publisher', 'viewer']) {
      if (!seen[role]) continue;
      lines.push(`${role}: ${JSON.stringify(seen[role].session)}`, ...seen[role].log.slice(-STORY_LOG_LINES).map((line) => `  ${line}`));
    }
    if (seen.problem) lines.push(`problem: ${seen.problem}`);
    lines.push(...this.#errors.map((error) => `  ${error}`));
    return lines.join('\n');
  }
}

function at(testid) {
  return `[data-testid="${testid}"]`;
}
