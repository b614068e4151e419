// Sessions: what runs on this page now, for whoever looks from outside (tests, a developer console): `window.onair`.
//
// Invariant: reading it changes nothing.

import { studio } from './studio.js';

export const current = { viewer: null };

function view(session) {
  if (!session) return null;
  return Object.freeze({
    get pc() { return session.pc; },
    get session() { return session.session; },
    get stats() { return session.stats?.latest ?? null; },
    get log() { return session.log.entries.map((entry) => ({ ...entry })); },
  });
}

export function exposeSessions() {
  Object.defineProperty(window, 'onair', {
    value: Object.freeze({
      get publisher() { return view(studio.publisher); },
      get viewer() { return view(current.viewer); },
    }),
  });
}
