// LiveSession: what a broadcaster and a viewer have in common: one signaling connection, one peer connection at a time,
// its watch, its statistics, its log; coming back after a failure.
//
// Invariant: everything that belongs to a connection ends with it, and a late callback of an older connection changes nothing.
//
// `state`: connecting (WebSocket) → joining (register, subscribe) → checking (ICE, DTLS) → connected; restarting (ICE
// restart); reconnecting (until `retryAt`); ended (by the user, or by `problem`).
// Events: `change` (state, problem or a detail) · `sample` (statistics).

import { Emitter } from './emitter.js';
import { EventLog } from './eventlog.js';
import { iceServers } from './api.js';
import { Signaling, RequestError } from './signaling.js';
import { ConnectionWatch } from './connection.js';
import { HealthCheck } from './health.js';
import { StatsSampler } from './stats.js';
import { negotiationProblem, serverProblem, unsupportedBrowser } from './problems.js';

const CANDIDATES_HELD_MAX = 64;
// Trying again may help with these; with any other refusal it would only repeat itself.
const WORTH_RETRYING = new Set(['too-many', 'internal', 'no-reply', 'bad-state']);

export class LiveSession extends Emitter {
  log = new EventLog();
  signaling = new Signaling();
  state = 'connecting';
  retryAt = null;
  /** Reconnecting because the server does not answer, not for any other reason. */
  serverGone = false;
  problem = null;
  pc = null;
  stats = null;
  #health = null;
  #watch = null;
  #heldCandidates = [];
  #iceServers = null;

  get latency_ms() {
    return this.#health?.latency_ms ?? null;
  }

  start() {
    if (!globalThis.RTCPeerConnection) {
      this.end(unsupportedBrowser());
      return;
    }
    // Asked for while the WebSocket is being opened; each later connection asks anew.
    this.#iceServers = this.#askIceServers();
    this.signaling.on('open', () => this.#begin());
    this.signaling.on('down', (down) => this.#onDown(down));
    this.signaling.on('fatal', (error) => this.end(serverProblem(error)));
    this.signaling.on('error', (error) => this.onServerError(error));
    this.signaling.start();
  }

  /** Ends it for good, with the problem that ended it, if there is one. */
  end(problem = null) {
    if (this.state === 'ended') return;
    this.signaling.close();
    this.#dropConnection();
    if (problem) this.log.add(problem.title + (problem.detail ? ` (${problem.detail})` : ''), 'error');
    else this.log.add('Ended');
    this.set({ state: 'ended', problem, retryAt: null });
  }

  set(changes) {
    Object.assign(this, changes);
    this.emit('change', this);
  }

  // For subclasses -------------------------------------------------------------------------------------------------

  /** Joins over a fresh peer connection: register or subscribe. Throws what goes wrong. */
  async join(_pc) {}

  /** Asks for an ICE restart of the running connection. */
  async restartIce(_pc) {}

  /** The m-line's broadcast, for statistics. */
  broadcastOf(_mid) {
    return null;
  }

  onConnected() {}

  /** The connection is gone, and with it what the server said about the session. */
  onDisconnected() {}

  /** An error that answers no request and is not fatal. */
  onServerError(error) {
    this.log.add(`Server: ${error.message ?? error.code}`, 'warn');
    if (error.code === 'internal' || error.code === 'bad-sdp') this.signaling.reset('the server reported an error');
  }

  /** The server knows the session: candidates may be sent. */
  joined() {
    const held = this.#heldCandidates ?? [];
    this.#heldCandidates = null;
    for (const candidate of held) this.signaling.send('candidate', { candidate });
  }

  /** Both descriptions are set. */
  negotiated() {
    this.#watch?.begin();
    if (this.state === 'joining') this.set({ state: 'checking' });
  }

  // ----------------------------------------------------------------------------------------------------------------

  async #begin() {
    const asked = this.#iceServers ?? this.#askIceServers();
    this.#iceServers = asked;
    const servers = await asked;
    // The WebSocket has gone meanwhile, or the user has.
    if (this.#iceServers !== asked) return;
    this.#iceServers = null;
    const pc = this.#makeConnection(servers);
    this.set({ state: 'joining', retryAt: null });
    try {
      await this.join(pc);
    } catch (error) {
      if (this.pc === pc) this.#joinFailed(error);
    }
  }

  #joinFailed(error) {
    if (error.problem) {
      this.end(error.problem);
    } else if (error instanceof RequestError) {
      if (error.code === 'gone') return; // `down` has told already
      const problem = serverProblem(error);
      if (!WORTH_RETRYING.has(error.code)) {
        this.end(problem);
        return;
      }
      this.set({ problem });
      this.signaling.reset(error.message);
    } else {
      this.end(negotiationProblem(error));
    }
  }

  // Most clients need none: whoever may not have them, or when they do not come, does without.
  #askIceServers() {
    return iceServers().catch((error) => {
      this.log.add(`No STUN and TURN servers: ${error.message}`, 'warn');
      return [];
    });
  }

  #makeConnection(servers) {
    this.#dropConnection();
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceServers: servers });
    this.pc = pc;
    this.#heldCandidates = [];
    pc.onicecandidate = ({ candidate }) => {
      if (this.pc === pc) this.#sendCandidate(candidate?.toJSON() ?? null);
    };
    this.#health = new HealthCheck(pc);
    this.#watch = new ConnectionWatch(pc, {
      connected: () => this.#onConnected(),
      stuck: (problem) => {
        this.log.add(`${problem.title} ${problem.detail ?? ''}`, 'error');
        this.set({ problem });
      },
      restart: () => this.#onRestart(pc),
      lost: (reason, problem) => {
        if (problem) this.set({ problem });
        this.signaling.reset(reason);
      },
    });
    this.stats = new StatsSampler(pc, (mid) => this.broadcastOf(mid));
    this.stats.on('sample', (sample) => this.emit('sample', sample));
    return pc;
  }

  #dropConnection() {
    this.#iceServers = null;
    this.#watch?.stop();
    this.#health?.stop();
    this.stats?.stop();
    this.pc?.close();
    this.pc = null;
  }

  #sendCandidate(candidate) {
    if (this.#heldCandidates === null) this.signaling.send('candidate', { candidate });
    else if (this.#heldCandidates.length < CANDIDATES_HELD_MAX) this.#heldCandidates.push(candidate);
  }

  #onConnected() {
    this.signaling.settled();
    if (this.state === 'connected') return;
    this.log.add(this.state === 'restarting' ? 'Media is back' : 'Media connected', 'good');
    this.set({ state: 'connected', problem: null });
    this.onConnected();
  }

  #onRestart(pc) {
    this.log.add('The network changed or the path broke: restarting ICE', 'warn');
    this.set({ state: 'restarting' });
    this.restartIce(pc).catch((error) => {
      if (this.pc !== pc || error.code === 'gone') return;
      // The server does not know this session any more, or the two sides disagree: only a new one helps.
      this.signaling.reset(`the ICE restart failed: ${error.message}`);
    });
  }

  #onDown({ reason, retryAt, serverGone }) {
    this.#dropConnection();
    this.onDisconnected();
    this.log.add(`Disconnected: ${reason}. Next try in ${Math.max(1, Math.round((retryAt - Date.now()) / 1000))} s`, 'warn');
    this.set({ state: 'reconnecting', retryAt, serverGone });
  }
}
