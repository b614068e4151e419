// ConnectionWatch: the life of one peer connection's transport: does it come up, does it stay, what is to be done.
//
// It only watches and tells:
//   connected()            ICE and DTLS stand (also after an ICE restart)
//   stuck(problem)         not connected after 8 s; it goes on trying
//   restart()              the path broke or the network changed: ask for an ICE restart
//   lost(reason)           it will not come back: start over

import { unreachable, handshakeFailed } from './problems.js';
import { candidatesOf } from './sdp.js';

const STUCK_AFTER_MS = 8000;
const LOST_AFTER_MS = 12000;
const DISCONNECTED_GRACE_MS = 2500;
const RESTART_WAIT_MS = 8000;
const ICE_STANDS = ['connected', 'completed'];

export class ConnectionWatch {
  #pc;
  #on;
  #timers = new Map();
  #wasConnected = false;
  #over = false;

  constructor(pc, on) {
    this.#pc = pc;
    this.#on = on;
    pc.addEventListener('connectionstatechange', this.#check);
    pc.addEventListener('iceconnectionstatechange', this.#check);
    window.addEventListener('online', this.#online);
  }

  /** Both descriptions are set: from now on it should connect. */
  begin() {
    // A restart of a path that still worked changes no state, so there is no event to wait for. Should the path be dead
    // all the same, ICE notices within seconds.
    if (this.#timers.has('restart')) this.#check();
    if (this.#wasConnected || this.#timers.has('stuck')) return;
    this.#after('stuck', STUCK_AFTER_MS, () => this.#on.stuck(this.#problem()));
    this.#after('lost', LOST_AFTER_MS, () => this.#lose('no connection for media'));
  }

  stop() {
    this.#over = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#pc.removeEventListener('connectionstatechange', this.#check);
    this.#pc.removeEventListener('iceconnectionstatechange', this.#check);
    window.removeEventListener('online', this.#online);
  }

  #check = () => {
    if (this.#over) return;
    const { connectionState, iceConnectionState } = this.#pc;
    // Firefox may say that the connection failed before it says so of ICE.
    const iceStands = ICE_STANDS.includes(iceConnectionState);
    if (connectionState === 'connected') {
      this.#wasConnected = true;
      for (const name of ['stuck', 'lost', 'grace', 'restart']) this.#cancel(name);
      this.#on.connected();
    } else if (connectionState === 'failed') {
      if (this.#wasConnected && !iceStands) this.#restart();
      else this.#lose(iceStands ? 'the secure handshake (DTLS) failed' : 'no path for media was found');
    } else if (iceConnectionState === 'disconnected' && this.#wasConnected) {
      this.#after('grace', DISCONNECTED_GRACE_MS, () => this.#restart());
    }
  };

  // Another network, another address: the old path is dead even while ICE has not noticed yet.
  #online = () => {
    if (this.#wasConnected) this.#restart();
  };

  #restart() {
    if (this.#over || this.#timers.has('restart')) return;
    this.#cancel('grace');
    this.#after('restart', RESTART_WAIT_MS, () => {
      if (this.#pc.connectionState !== 'connected') this.#lose('the connection for media broke');
    });
    this.#on.restart();
  }

  #lose(reason) {
    if (this.#over) return;
    const problem = this.#problem();
    const everConnected = this.#wasConnected;
    this.stop();
    this.#on.lost(reason, everConnected ? null : problem);
  }

  #problem() {
    if (ICE_STANDS.includes(this.#pc.iceConnectionState)) return handshakeFailed();
    return unreachable(candidatesOf(this.#pc.localDescription?.sdp), candidatesOf(this.#pc.remoteDescription?.sdp));
  }

  #after(name, delay_ms, act) {
    if (this.#timers.has(name)) return;
    this.#timers.set(name, setTimeout(() => {
      this.#timers.delete(name);
      act();
    }, delay_ms));
  }

  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
