// Names of rooms and users, as the server takes them, and what was used last in this browser.

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export const NAME_RULE = 'Up to 64 letters, digits, dots, hyphens or underscores; the first a letter or a digit.';

export const isName = (text) => NAME.test(text);

/** Storage can be switched off or full; then nothing is remembered, and nothing else is wrong. */
export function recall(key, fallback) {
  try {
    return localStorage.getItem(`onair.${key}`) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(`onair.${key}`, value);
  } catch { /* see recall */ }
}

export const defaultRoom = () => recall('room', 'lobby');

export function defaultUser() {
  return recall('user', `guest-${(1000 + Math.floor(Math.random() * 9000))}`);
}

export function splitBroadcast(id) {
  const [room = '', user = ''] = String(id).split('/');
  return { room, user };
}

export const watchHref = (room, user) =>
  `#/watch/${encodeURIComponent(room)}${user ? `/${encodeURIComponent(user)}` : ''}`;
