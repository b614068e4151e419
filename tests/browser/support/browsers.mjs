// Browsers: the system's Chromium and Firefox, headless, each with an empty profile.
//
// Invariant: only a broadcaster's Chromium runs with the flag that grants the camera: with it a page gets real addresses
// in its candidates, while real viewers send mDNS names.

import puppeteer from 'puppeteer-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
const LAUNCH_WITHIN_MS = 60_000;
const PROTOCOL_WITHIN_MS = 120_000;

const CHROMIUM_FLAGS = [
  '--no-sandbox', // as root, in containers
  '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required', '--disable-gpu', '--disable-dev-shm-usage',
  '--mute-audio', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic',
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows',
];

const FIREFOX_PREFERENCES = {
  'media.navigator.permission.disabled': true,
  'media.navigator.streams.fake': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  // The OpenH264 plug-in is a download: whether it came would decide what is tested.
  'media.gmp-manager.updateEnabled': false,
  'media.gmp-gmpopenh264.enabled': false,
  'app.update.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'toolkit.telemetry.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
};

/** A Chromium that may use its (fake) camera and microphone. */
export function broadcasterChromium() {
  return chromium(['--use-fake-ui-for-media-stream']);
}

/** A Chromium as viewers have it. */
export function viewerChromium() {
  return chromium([]);
}

/** Either of them, when its user has told it to trust a certificate that nobody vouches for. */
export function trustingBroadcasterChromium() {
  return chromium(['--use-fake-ui-for-media-stream', '--ignore-certificate-errors']);
}

export function trustingViewerChromium() {
  return chromium(['--ignore-certificate-errors']);
}

/** A Chromium that refuses cameras, as one does whose user said no. */
export function refusingChromium() {
  return chromium(['--deny-permission-prompts']);
}

export function firefox() {
  return launchFirefox();
}

/** Takes any certificate of a page. */
export function trustingFirefox() {
  return launchFirefox({ acceptInsecureCerts: true });
}

function launchFirefox(options = {}) {
  return puppeteer.launch({
    browser: 'firefox', executablePath: FIREFOX, headless: true, timeout: LAUNCH_WITHIN_MS, protocolTimeout: PROTOCOL_WITHIN_MS,
    extraPrefsFirefox: FIREFOX_PREFERENCES, ...options,
  });
}

function chromium(flags) {
  return puppeteer.launch({
    executablePath: CHROMIUM, headless: true, timeout: LAUNCH_WITHIN_MS, protocolTimeout: PROTOCOL_WITHIN_MS, args: [...CHROMIUM_FLAGS, ...flags],
  });
}
