// WakeLock: keeps a phone's screen (and with it the camera) on while something is live.

let lock = null;
let wanted = false;

export function keepAwake(on) {
  wanted = on;
  if (on) acquire();
  else release();
}

async function acquire() {
  if (lock !== null || !navigator.wakeLock || document.visibilityState !== 'visible') return;
  const request = navigator.wakeLock.request('screen').catch(() => null);
  lock = request;
  const sentinel = await request;
  if (lock !== request) sentinel?.release();
  else if (sentinel === null) lock = null;
  else sentinel.addEventListener('release', () => { if (lock === request) lock = null; });
}

async function release() {
  const held = lock;
  lock = null;
  (await held)?.release();
}

document.addEventListener('visibilitychange', () => { if (wanted) acquire(); });
