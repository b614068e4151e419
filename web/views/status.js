// Status: a session's state in a few words, problems with advice, and chips.

import { h, fill, setText } from '../dom.js';
import { tokenForm } from './tokenform.js';

const WORDS = {
  connecting: 'Connecting to the server…',
  joining: 'Joining…',
  checking: 'Connecting media…',
  restarting: 'The network changed; restoring media…',
  ended: 'Ended',
};

/** { text, tone } of a LiveSession; `connected` says what connected means here. */
export function statusOf(session, connected) {
  if (session.state === 'connected') return connected;
  if (session.state === 'reconnecting') {
    const seconds = Math.max(0, Math.ceil((session.retryAt - Date.now()) / 1000));
    return { text: seconds > 0 ? `${session.serverGone ? 'Server gone; reconnecting' : 'Trying again'} in ${seconds} s` : 'Reconnecting…', tone: 'warn' };
  }
  return { text: WORDS[session.state] ?? session.state, tone: session.problem ? 'bad' : 'quiet' };
}

const announced = new WeakMap();

/** Reads a new state out to screen readers: once, and without the countdown that is only for the eye. */
export function announceState(session, connected) {
  const { text } = session.state === 'reconnecting' ? { text: 'Connection lost; trying again' } : statusOf(session, connected);
  if (announced.get(session) === text) return;
  announced.set(session, text);
  document.getElementById('announcer').textContent = text;
}

/** A small labelled pill. `set(text, tone)`; an empty text hides it. Tones: quiet, good, warn, bad, live. */
export function chip(testid, attributes = {}) {
  const element = h('span', { class: 'chip', 'data-testid': testid, hidden: true, ...attributes });
  return {
    element,
    set(text, tone = 'quiet') {
      setText(element, text);
      element.dataset.tone = tone;
      element.hidden = text === '';
    },
  };
}

/** A place for one problem: what happened, what to do, details for whoever has to look deeper. */
export function problemPanel() {
  const element = h('div', { class: 'problem', role: 'alert', 'data-testid': 'problem', hidden: true });
  let shown = null;
  return {
    element,
    set(problem) {
      if (problem === shown) return;
      shown = problem;
      element.hidden = !problem;
      element.dataset.code = problem?.code ?? '';
      if (!problem) {
        fill(element);
        return;
      }
      fill(element,
        h('p', { class: 'problem-title' }, problem.title),
        h('p', {}, problem.advice),
        problem.detail ? h('p', { class: 'problem-detail', 'data-testid': 'problem-detail' }, problem.detail) : null,
        problem.code === 'unauthorized' ? tokenForm() : null);
    },
  };
}
