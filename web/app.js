// The page: one view at a time, chosen by the route.

import { fill, h } from './dom.js';
import { startRouter } from './router.js';
import { studio } from './studio.js';
import { exposeSessions } from './sessions.js';
import { homeView } from './views/home.js';
import { publishView } from './views/publish.js';
import { watchView } from './views/watch.js';
import { recordingsView } from './views/recordings.js';

const VIEWS = { home: homeView, publish: publishView, watch: watchView, recordings: recordingsView, missing: missingView };

const main = document.getElementById('main');
const announcer = document.getElementById('announcer');
const pill = document.getElementById('on-air-pill');
let dispose = null;

startRouter((route) => {
  const first = dispose === null;
  dispose?.();
  main.dataset.view = route.view;
  dispose = VIEWS[route.view](main, route) ?? (() => {});
  document.title = titleOf(route);
  for (const link of document.querySelectorAll('[data-nav]')) {
    if (link.dataset.nav === route.view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (first) return;
  // A new view is a new page: start at its top, and let screen readers hear it.
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
  announcer.textContent = document.title;
});

studio.on('change', showPill);
window.addEventListener('hashchange', showPill);
showPill();
exposeSessions();

document.querySelector('[data-skip]').addEventListener('click', (event) => {
  event.preventDefault(); // the address after # is the route
  main.focus();
});

function showPill() {
  pill.hidden = !studio.live || main.dataset.view === 'publish';
  pill.textContent = studio.live ? `On air · ${studio.publisher.broadcast}` : '';
}

function titleOf({ view, params }) {
  const names = { home: '', publish: 'Publish', recordings: 'Recordings', missing: 'Not found', watch: params.user ? `${params.user} in ${params.room}` : params.room };
  return names[view] ? `${names[view]} · onair` : 'onair';
}

function missingView(root) {
  fill(root, h('h1', {}, 'There is nothing here'),
    h('p', {}, 'The address is not one of this page. Rooms and names have up to 64 letters, digits, dots, hyphens or underscores.'),
    h('a', { class: 'button', href: '#/' }, 'Home'));
}
