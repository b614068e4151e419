// Impairment: a relay for datagrams between browsers and a server that is told to advertise the relay's address
// (`--public-ip`). It loses some and holds each for a time of its own, so that later ones overtake it.
//
// Nothing is spared: ICE, DTLS and RTCP suffer as media does, since a bad path is bad from its first datagram on.
//
// Invariant: each client has an upstream socket of its own, so that the server sees as many peers as there are; and what
// a client's path is like is settled when its first datagram comes.

import { createSocket } from 'node:dgram';

const SERVER = '127.0.0.1';
/** A browser opens a handful of sockets for each connection. */
const CLIENTS_MAX = 64;
/** What comes in a burst waits here while this process does something else; the kernel may grant less. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

/** A path that does nothing to what passes. */
export const CLEAN = Object.freeze({ loss: 0, jitter_ms: 0 });
/** `loss`: the share of datagrams that vanish; each other one is held for 0 to `jitter_ms`; both in each direction. */
export const BAD = Object.freeze({ loss: 0.03, jitter_ms: 30 });

export class Impairment {
  /** The path of clients that come from now on. */
  newcomers = CLEAN;
  #front;
  #host;
  #serverPort = null;
  #seed;
  #paths = new Map();
  #timers = new Set();

  constructor(front, host, seed) {
    this.#front = front;
    this.#host = host;
    this.#seed = seed;
  }

  /** One that clients reach at `host`, an address of this machine. Its losses and times follow from `seed`. */
  static async open(host, { seed = 1 } = {}) {
    const relay = new Impairment(await bind(host), host, seed);
    relay.#front.on('message', (datagram, { address, port }) => relay.#fromClient(datagram, address, port));
    return relay;
  }

  /** IP:PORT, what the server has to advertise. */
  get address() {
    return `${this.#host}:${this.#front.address().port}`;
  }

  /** Datagrams go to this port of a server on 127.0.0.1 from now on; what came before has vanished. */
  connect(serverPort) {
    this.#serverPort = serverPort;
  }

  /** What passed in all: { up, down }, each { passed, lost, overtaken }, of clients whose path is `like`. */
  counts(like = BAD) {
    const sum = (direction) => [...this.#paths.values()].filter(({ conditions }) => conditions === like).reduce((total, path) => ({
      passed: total.passed + path[direction].passed, lost: total.lost + path[direction].lost, overtaken: total.overtaken + path[direction].overtaken,
    }), { passed: 0, lost: 0, overtaken: 0 });
    return { up: sum('up'), down: sum('down') };
  }

  close() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#front.close();
    for (const { upstream } of this.#paths.values()) upstream.then((socket) => socket.close());
  }

  async #fromClient(datagram, address, port) {
    const client = `${address}:${port}`;
    if (this.#serverPort === null) return;
    if (!this.#paths.has(client)) {
      if (this.#paths.size === CLIENTS_MAX) return;
      this.#paths.set(client, this.#path(address, port));
    }
    const path = this.#paths.get(client);
    const upstream = await path.upstream;
    this.#pass(path, path.up, () => upstream.send(datagram, this.#serverPort, SERVER));
  }

  #path(address, port) {
    const conditions = this.newcomers;
    const number = this.#paths.size;
    const direction = (index) => ({ random: randomNumbers(this.#seed * 1000 + number * 2 + index), passed: 0, lost: 0, overtaken: 0, begun: 0, newest: 0 });
    // At the address that clients know, too: the server tells a client where it was seen, and Firefox takes no answer that
    // names 127.0.0.1.
    const path = { conditions, up: direction(0), down: direction(1), upstream: bind(this.#host) };
    path.upstream.then((socket) => {
      socket.on('message', (datagram) => this.#pass(path, path.down, () => this.#front.send(datagram, port, address)));
    });
    return path;
  }

  #pass({ conditions: { loss, jitter_ms } }, direction, send) {
    const number = ++direction.begun;
    // Two numbers for each datagram, lost or not: what becomes of one leaves the fate of the others as it is.
    const isLost = direction.random() < loss;
    const hold_ms = direction.random() * jitter_ms;
    if (isLost) {
      direction.lost += 1;
      return;
    }
    const go = () => {
      direction.passed += 1;
      if (number < direction.newest) direction.overtaken += 1;
      direction.newest = Math.max(direction.newest, number);
      send();
    };
    if (jitter_ms === 0) {
      go();
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      go();
    }, hold_ms);
    this.#timers.add(timer);
  }
}

function bind(host) {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: 'udp4', recvBufferSize: RECEIVE_BUFFER_BYTES });
    socket.once('error', reject);
    socket.bind(0, host, () => {
      socket.removeListener('error', reject);
      // A port unreachable of a browser that closed its socket is no matter of ours.
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** Numbers in [0, 1) that repeat with their seed (mulberry32). */
function randomNumbers(seed) {
  let state = Math.imul(seed, 0x9e3779b9);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
