// Router: the part of the address after `#` says what is shown.
//
//   #/                         what is live, recent recordings
//   #/publish                  publish a broadcast
//   #/watch/{room}             a whole room as a wall
//   #/watch/{room}/{user}      one broadcast
//   #/recordings               recordings; `?play={path}` opens one
//
// Query parameters, for links and for tests (`#/publish?room=r&user=u&auto=1`):
//
//   publish   room, user       names
//             source           camera (default) or screen
//             audio, video     0 leaves it out
//             codec            H264, VP8, VP9, AV1, H265; absent: the server's preference
//             quality          1080, 720 (default) or 480
//             camera, mic      device ids
//             auto             1 starts at once
//   watch     muted            1 starts without sound
//   all       token            shown to the server from then on, as long as the tab is open
//
// Controls and status fields carry `data-testid`. `window.onair.publisher` and `window.onair.viewer` are the
// running sessions ({ pc, session, stats, log }) or null; reading them changes nothing.

import { isName } from './names.js';
import { takeTokenFromAddress } from './token.js';

/** "#/watch/r/u?muted=1" → { view, params, query, path }. Unknown routes are `missing`. */
export function parseRoute(hash) {
  const [path, search = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const query = new URLSearchParams(search);
  const [head = '', ...rest] = path.split('/').filter(Boolean).map(decode);
  const route = (view, params = {}) => ({ view, params, query, path });
  if (head === '') return route('home');
  if (head === 'publish' && rest.length === 0) return route('publish');
  if (head === 'recordings' && rest.length === 0) return route('recordings');
  if (head === 'watch' && (rest.length === 1 || rest.length === 2) && rest.every(isName)) {
    return route('watch', { room: rest[0], user: rest[1] });
  }
  return route('missing');
}

/** Calls `show(route)` now and whenever the address changes. */
export function startRouter(show) {
  const go = () => {
    takeTokenFromAddress();
    show(parseRoute(location.hash));
  };
  window.addEventListener('hashchange', go);
  go();
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
