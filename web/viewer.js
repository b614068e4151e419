// Viewer: receives one broadcast, or every wanted broadcast of a room, over one peer connection that the server
// renegotiates as broadcasters come and go.
//
// Invariant: media is told apart by the `tracks` of the newest offer, by mid, and by nothing else; sound and picture of
// one broadcast are in one MediaStream, which lives as long as its broadcast.

import { LiveSession } from './livesession.js';
import { serverProblem } from './problems.js';
import { withStereo } from './sdp.js';

const REASONS = {
  left: 'left', timeout: 'was not heard of any more', failed: 'lost the connection', replaced: 'starts anew',
  kicked: 'was ended by the server', shutdown: 'was ended: the server is shutting down',
};

export class Viewer extends LiveSession {
  /** Ids live in the room, or the one watched: what the server named, wanted or not. */
  live = new Set();
  /** id → { id, stream, kinds: Set, note } for broadcasts whose media is received. */
  broadcasts = new Map();
  /** Ids of the room the user does not want to receive. */
  hidden = new Set();
  #target;
  #trackOf = new Map();
  #exchange = Promise.resolve();
  // The server holds a list of wanted ids; without one it sends whatever is live.
  #listInForce = false;

  /** `target`: { room, user?, token? }; without a user it is the whole room. */
  constructor(target) {
    super();
    this.#target = target;
    const on = (type, handler) => this.signaling.on(type, handler);
    on('offer', (message) => this.#onOffer(message));
    on('broadcaster-connected', ({ broadcast }) => this.#onBroadcaster(broadcast));
    on('broadcaster-disconnected', ({ broadcast, reason }) => this.#onBroadcasterGone(broadcast, reason));
    on('unsubscribed', () => {
      if (this.state !== 'ended') this.signaling.reset('the server ended the subscription');
    });
  }

  get room() { return this.#target.room; }
  get user() { return this.#target.user; }

  get session() {
    const { room, user, state, retryAt, problem, latency_ms } = this;
    const broadcasts = [...this.broadcasts.values()].map(({ id, kinds, note }) => ({ id, kinds: [...kinds], note }));
    return { role: 'viewer', room, user, state, retryAt, problem, live: [...this.live], broadcasts, hidden: [...this.hidden], latency_ms };
  }

  stop() {
    this.signaling.send('unsubscribe');
    this.end();
  }

  /** Receives or leaves out one broadcast of the room. */
  async setWanted(id, wanted) {
    if (wanted) this.hidden.delete(id);
    else this.hidden.add(id);
    this.set({});
    await this.#select();
  }

  async join(pc) {
    const { room, user, token } = this.#target;
    this.#trackOf.clear();
    this.#exchange = Promise.resolve();
    this.#listInForce = false;
    const reply = await this.signaling.request('subscribe', { room, user, token });
    if (this.pc !== pc) return;
    this.live = new Set(idsOf(reply.broadcasts));
    this.log.add(this.live.size ? `Subscribed: ${[...this.live].join(', ')}` : 'Subscribed; nothing is live yet', 'good');
    this.set({});
    if (this.#hiddenLive().length) await this.#select();
  }

  async restartIce() {
    await this.signaling.request('restart'); // the offer that follows is answered like any other
  }

  broadcastOf(mid) {
    return this.#trackOf.get(mid)?.broadcast ?? null;
  }

  onServerError(error) {
    if (error.broadcast) {
      const problem = serverProblem(error);
      this.log.add(`${problem.title} ${problem.advice}`, 'warn');
      this.#entry(error.broadcast).note = problem;
      this.set({});
    } else {
      super.onServerError(error);
    }
  }

  // Offers are answered one after another, in the order they came.
  #onOffer(message) {
    const pc = this.pc;
    this.#exchange = this.#exchange.then(() => this.#answer(pc, message)).catch((error) => {
      if (this.pc !== pc || pc === null) return;
      this.log.add(`Negotiation: ${error.message}`, 'error');
      this.signaling.reset('the server\'s offer could not be answered');
    });
  }

  async #answer(pc, { sdp, seq, tracks }) {
    if (this.pc !== pc || pc === null) return;
    await pc.setRemoteDescription({ type: 'offer', sdp });
    const answer = await pc.createAnswer();
    await pc.setLocalDescription({ type: 'answer', sdp: withStereo(answer.sdp) });
    if (this.pc !== pc) return;
    this.signaling.send('answer', { sdp: pc.localDescription.sdp, seq });
    this.joined();
    this.#applyTracks(pc, Array.isArray(tracks) ? tracks : []);
    this.negotiated();
  }

  #applyTracks(pc, tracks) {
    this.#trackOf = new Map(tracks.map(({ mid, broadcast, kind }) => [mid, { broadcast, kind }]));
    const received = new Map();
    for (const { mid, receiver } of pc.getTransceivers()) {
      const broadcast = this.broadcastOf(mid);
      if (broadcast === null) continue;
      if (!received.has(broadcast)) received.set(broadcast, []);
      received.get(broadcast).push(receiver.track);
    }
    for (const [id, entry] of this.broadcasts) {
      if (received.has(id)) continue;
      setTracks(entry.stream, []);
      entry.kinds = new Set();
      // A broadcast that cannot be played stays to say so.
      if (!entry.note || !this.live.has(id)) this.broadcasts.delete(id);
    }
    for (const [id, list] of received) {
      const entry = this.#entry(id);
      setTracks(entry.stream, list);
      if (entry.note?.code === 'too-many') entry.note = null;
      entry.kinds = new Set(list.map(({ kind }) => kind));
    }
    this.set({});
  }

  #onBroadcaster(id) {
    this.live.add(id);
    this.log.add(`${id} is live`, 'good');
    const entry = this.broadcasts.get(id);
    if (entry) entry.note = null;
    this.set({});
    // Whoever is new is wanted, unless left out before; what the server assumes depends on the list.
    if (this.#listInForce || this.hidden.has(id)) this.#select();
  }

  #onBroadcasterGone(id, reason) {
    this.live.delete(id);
    this.log.add(`${id} ${REASONS[reason] ?? reason ?? 'left'}`, 'info');
    this.set({});
  }

  #hiddenLive() {
    return [...this.live].filter((id) => this.hidden.has(id));
  }

  async #select() {
    const broadcasts = this.#hiddenLive().length ? [...this.live].filter((id) => !this.hidden.has(id)) : null;
    this.#listInForce = broadcasts !== null;
    try {
      await this.signaling.request('select', { broadcasts });
    } catch (error) {
      if (error.code !== 'gone') this.log.add(`Selection: ${error.message}`, 'warn');
    }
  }

  #entry(id) {
    if (!this.broadcasts.has(id)) this.broadcasts.set(id, { id, stream: new MediaStream(), kinds: new Set(), note: null });
    return this.broadcasts.get(id);
  }
}

function idsOf(list) {
  return Array.isArray(list) ? list.filter((id) => typeof id === 'string') : [];
}

function setTracks(stream, tracks) {
  for (const track of stream.getTracks()) if (!tracks.includes(track)) stream.removeTrack(track);
  for (const track of tracks) if (!stream.getTracks().includes(track)) stream.addTrack(track);
}
