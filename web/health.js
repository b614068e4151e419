// HealthCheck: the time of a round trip to the server over the media path. A `ping-N` each second on the data channel
// `health-check`, answered with `pong-N`.

const PING_EVERY_MS = 1000;
const UNANSWERED_MAX = 10;

export class HealthCheck {
  latency_ms = null;
  lastPongAt = null;
  #channel;
  #sentAt = new Map();
  #next = 1;
  #timer;

  constructor(pc) {
    this.#channel = pc.createDataChannel('health-check');
    this.#channel.onopen = () => {
      this.#ping();
      this.#timer = setInterval(() => this.#ping(), PING_EVERY_MS);
    };
    this.#channel.onmessage = (event) => this.#receive(String(event.data));
    this.#channel.onclose = () => this.stop();
  }

  stop() {
    clearInterval(this.#timer);
    this.latency_ms = null;
  }

  #ping() {
    if (this.#channel.readyState !== 'open') return;
    const n = this.#next++;
    this.#sentAt.set(n, performance.now());
    if (this.#sentAt.size > UNANSWERED_MAX) this.#sentAt.delete(this.#sentAt.keys().next().value);
    if (this.lastPongAt !== null && performance.now() - this.lastPongAt > 4 * PING_EVERY_MS) this.latency_ms = null;
    this.#channel.send(`ping-${n}`);
  }

  #receive(text) {
    const n = Number(/^pong-(\d+)$/.exec(text)?.[1]);
    const sentAt = this.#sentAt.get(n);
    if (sentAt === undefined) return;
    this.#sentAt.delete(n);
    this.lastPongAt = performance.now();
    const trip_ms = this.lastPongAt - sentAt;
    this.latency_ms = this.latency_ms === null ? trip_ms : this.latency_ms * 0.7 + trip_ms * 0.3;
  }
}
