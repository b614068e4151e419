// Signaling: the WebSocket, kept open. It pairs requests with replies by id, notices a dead connection, and connects
// anew with exponential back-off and jitter.
//
// Invariant: after an error marked `fatal`, or after close(), it never connects again by itself.
//
// Events: `open` (a fresh socket: the session begins anew) · `down` ({ reason, serverGone, retryAt }) · `fatal` (an error message) ·
// `error` (an error that answers no request) · each other message under its own type.

import { Emitter } from './emitter.js';

const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 10000;
const BACKOFF_OVERLOAD_MS = 5000;
const REQUEST_TIMEOUT_MS = 10000;
const PING_EVERY_MS = 15000;
const PING_TIMEOUT_MS = 6000;
const PENDING_MAX = 32;

const CLOSE_REASONS = {
  1001: 'the server is shutting down',
  1003: 'the server refused a message',
  1008: 'the server ended the session: too many messages, or too slow',
  1009: 'a message was too large for the server',
  1013: 'the server is overloaded',
};

export class RequestError extends Error {
  constructor({ code, message, fatal, broadcast }) {
    super(message ?? code);
    this.name = 'RequestError';
    this.code = code;
    this.fatal = fatal === true;
    this.broadcast = broadcast;
  }
}

export class Signaling extends Emitter {
  #url;
  #socket = null;
  #pending = new Map();
  #nextId = 1;
  #failures = 0;
  #retryTimer = null;
  #pingTimer = null;
  #over = false;
  #opened = false;

  constructor(url = defaultUrl()) {
    super();
    this.#url = url;
  }

  start() {
    window.addEventListener('online', this.#hurry);
    document.addEventListener('visibilitychange', this.#onVisible);
    this.#connect();
  }

  /** Resolves with the direct reply; rejects with a RequestError, also when the socket goes down (code `gone`). */
  request(type, fields = {}, timeout_ms = REQUEST_TIMEOUT_MS) {
    return new Promise((resolve, reject) => {
      if (this.#pending.size >= PENDING_MAX || this.#socket?.readyState !== WebSocket.OPEN) {
        reject(new RequestError({ code: 'gone', message: 'there is no connection to the server' }));
        return;
      }
      const id = String(this.#nextId++);
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new RequestError({ code: 'no-reply', message: `The server did not answer “${type}” within ${timeout_ms / 1000} s` }));
      }, timeout_ms);
      this.#pending.set(id, { resolve, reject, timer });
      this.send(type, { id, ...fields });
    });
  }

  /** Sends a message that has no reply. Without a connection it is dropped: the session starts anew with the next one. */
  send(type, fields = {}) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, ...fields }));
  }

  /** The session stands: earlier failures are forgotten. Called once media is connected, not when the socket
   *  opens, so that a server which accepts and then fails is not hammered. */
  settled() {
    this.#failures = 0;
  }

  /** Gives this connection up and makes a new one after the back-off. */
  reset(reason) {
    if (!this.#over) this.#down(reason, { serverGone: false });
  }

  close() {
    this.#over = true;
    clearTimeout(this.#retryTimer);
    window.removeEventListener('online', this.#hurry);
    document.removeEventListener('visibilitychange', this.#onVisible);
    this.#drop('closed');
  }

  #connect() {
    this.#retryTimer = null;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#opened = false;
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#opened = true;
      this.#pingTimer = setInterval(() => this.#ping(), PING_EVERY_MS);
      this.emit('open');
    };
    socket.onmessage = (event) => {
      if (this.#socket === socket) this.#receive(event.data);
    };
    socket.onclose = (event) => {
      if (this.#socket !== socket) return;
      const reason = CLOSE_REASONS[event.code] ?? (this.#opened ? 'the connection to the server was lost' : 'the server does not answer');
      this.#down(reason, { serverGone: true, atLeast_ms: event.code === 1013 ? BACKOFF_OVERLOAD_MS : 0 });
    };
  }

  #receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (message === null || typeof message !== 'object' || typeof message.type !== 'string') return;
    const fatal = message.type === 'error' && message.fatal === true;
    const waiting = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (waiting) {
      clearTimeout(waiting.timer);
      this.#pending.delete(message.id);
    }
    if (fatal) {
      // Over before anybody hears of it: a handler must not be able to bring the connection back.
      this.close();
      this.emit('fatal', message);
    }
    if (waiting) {
      if (message.type === 'error') waiting.reject(new RequestError(message));
      else waiting.resolve(message);
    }
    if (message.type === 'error') {
      if (!waiting && !fatal) this.emit('error', message);
    } else {
      this.emit(message.type, message);
    }
  }

  #down(reason, { serverGone, atLeast_ms = 0 }) {
    this.#drop(reason);
    const ceiling_ms = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 10);
    const wait_ms = Math.max(atLeast_ms, ceiling_ms * (0.5 + Math.random() / 2));
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#connect(), wait_ms);
    this.emit('down', { reason, serverGone, retryAt: Date.now() + wait_ms });
  }

  #drop(reason) {
    clearInterval(this.#pingTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState <= WebSocket.OPEN) socket.close(1000);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject, timer } of pending) {
      clearTimeout(timer);
      reject(new RequestError({ code: 'gone', message: reason }));
    }
  }

  async #ping() {
    const socket = this.#socket;
    try {
      await this.request('ping', {}, PING_TIMEOUT_MS);
    } catch (error) {
      if (error.code === 'no-reply' && this.#socket === socket) this.reset('the server stopped answering');
    }
  }

  // The network is back: no need to sit out the rest of the back-off.
  #hurry = () => {
    if (this.#retryTimer === null) this.#ping();
    else {
      clearTimeout(this.#retryTimer);
      this.#connect();
    }
  };

  // A page that slept may hold a socket which died meanwhile.
  #onVisible = () => {
    if (document.visibilityState === 'visible' && this.#retryTimer === null) this.#ping();
  };
}

function defaultUrl() {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
}
