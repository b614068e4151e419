// Token: what this tab shows the server to be let in.
//
// Invariant: it lives as long as the tab, and does not stay in the address, which people share and browsers remember.

const KEY = 'onair-token';

/** The token, or undefined. */
export function token() {
  return sessionStorage.getItem(KEY) ?? undefined;
}

/** Keeps a token; an empty one forgets it. */
export function keepToken(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

/** Takes the token out of `#/…?token=…`, if there is one. */
export function takeTokenFromAddress() {
  const [path, search = ''] = location.hash.split('?', 2);
  const query = new URLSearchParams(search);
  const given = query.get('token');
  if (given === null) return;
  keepToken(given);
  query.delete('token');
  const rest = query.toString();
  history.replaceState(history.state, '', rest ? `${path}?${rest}` : path || '#/');
}

/** Headers of a request that shows it. */
export function tokenHeaders() {
  return token() ? { authorization: `Bearer ${token()}` } : {};
}

/** An address that shows it, for elements that send no headers of ours. */
export function withToken(href) {
  return token() ? `${href}?token=${encodeURIComponent(token())}` : href;
}
