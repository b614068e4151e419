// Publish: the studio on screen. The broadcast itself lives in studio.js and goes on when this view is left.

import { h, fill, setText } from '../dom.js';
import { icon } from '../icons.js';
import { studio } from '../studio.js';
import { alreadyAllowed, onDeviceChange } from '../capture.js';
import { insecureContext } from '../problems.js';
import { watchHref } from '../names.js';
import { plural } from '../format.js';
import { PublishForm } from './publishform.js';
import { RecordingLine } from './recordingline.js';
import { StatsPanel } from './statspanel.js';
import { LogPanel } from './logpanel.js';
import { announceState, chip, problemPanel, statusOf } from './status.js';

const TICK_MS = 500;
const ON_AIR = { text: 'On air', tone: 'live' };

const RECORDING_CHIPS = {
  off: ['Not recorded', 'quiet'],
  ready: ['Will be recorded', 'quiet'],
  started: ['Recording', 'rec'],
  finished: ['Recording finished', 'good'],
  failed: ['Recording failed', 'bad'],
};
const VIDEO_CHECK_CHIPS = {
  none: ['', 'quiet'],
  waiting: ['Server has no video yet', 'quiet'],
  ok: ['Server receives video', 'good'],
  lost: ['Server receives no video', 'bad'],
};

export function publishView(root, route) {
  const view = new PublishView(route);
  fill(root, view.element);
  view.begin(route);
  return () => view.dispose();
}

class PublishView {
  element;
  #form;
  #preview = h('video', { playsInline: true, muted: true, 'data-testid': 'preview', 'aria-label': 'Preview of what is sent' });
  #placeholder = h('div', { class: 'stage-placeholder' });
  #state = chip('publish-state');
  #viewers = chip('viewers');
  #recording = chip('recording');
  #videoCheck = chip('video-check');
  #problem = problemPanel();
  #start = h('button', { type: 'button', class: 'button primary', 'data-testid': 'start', onclick: () => this.#goLive() }, icon('camera'), h('span', {}, 'Start', h('span', { class: 'wide-only' }, ' broadcast')));
  #stop = h('button', { type: 'button', class: 'button danger', 'data-testid': 'stop', onclick: () => studio.stop() }, icon('stop'), 'Stop');
  #mute = h('button', { type: 'button', class: 'button', 'data-testid': 'mute-mic', onclick: () => studio.setMuted(!studio.muted) });
  #hide = h('button', { type: 'button', class: 'button', 'data-testid': 'hide-picture', onclick: () => studio.setHidden(!studio.hidden) });
  #recordingLine = new RecordingLine();
  #share = h('div', { class: 'share', hidden: true });
  #stats = new StatsPanel('broadcaster');
  #log = new LogPanel();
  #publisher = null;
  #stream = null;
  #undo = [];

  constructor(route) {
    this.#form = new PublishForm(route.query);
    this.#form.on('submit', () => this.#goLive());
    this.#form.on('devices', () => { if (studio.stream && !studio.live) studio.preview(this.#form.wish); });
    this.#form.on('device', (kind) => studio.switchDevice(kind, this.#form.wish));
    this.#stats.element.hidden = true;
    this.#log.element.hidden = true;
    this.element = h('div', {},
      h('h1', {}, 'Publish'),
      h('div', { class: 'studio' },
        h('div', { class: 'studio-stage' },
          h('div', { class: 'stage' }, this.#preview, this.#placeholder,
            h('div', { class: 'stage-chips' }, this.#state.element, this.#recording.element, this.#viewers.element)),
          h('div', { class: 'toolbar' }, this.#start, this.#stop, this.#mute, this.#hide, this.#videoCheck.element),
          this.#recordingLine.element, this.#problem.element, this.#share),
        this.#form.element,
        h('div', { class: 'studio-below' }, this.#stats.element, this.#log.element)));
  }

  async begin(route) {
    const tick = setInterval(() => this.#showLive(), TICK_MS);
    this.#undo.push(() => clearInterval(tick), studio.on('change', () => this.#show()), onDeviceChange(() => this.#form.refreshDevices()));
    if (studio.live) this.#form.showRunning(studio.wish, studio.publisher);
    this.#show();
    await this.#form.refreshDevices(route.query);
    if (this.#undo.length === 0) return; // left meanwhile
    if (studio.stream) this.#form.showDevices(studio.stream);
    if (!navigator.mediaDevices?.getUserMedia) this.#problem.set(insecureContext());
    else if (studio.live) return;
    else if (route.query.get('auto') === '1') this.#goLive();
    else if (this.#form.wish.source === 'camera' && await alreadyAllowed(this.#form.wish) && this.#undo.length) studio.preview(this.#form.wish);
  }

  dispose() {
    for (const undo of this.#undo.splice(0)) undo();
    this.#attach(null);
    this.#log.detach();
    this.#preview.srcObject = null;
    studio.leave();
  }

  #goLive() {
    if (this.#form.check()) studio.goLive(this.#form.wish, this.#form.target);
  }

  #show() {
    const { live, busy, stream, publisher } = studio;
    this.#attach(publisher);
    if (this.#stream !== stream) {
      this.#stream = stream;
      this.#preview.srcObject = stream;
      if (stream) {
        this.#preview.play().catch(() => { /* muted previews may play; a hidden page plays later */ });
        this.#form.refreshDevices().then(() => { if (this.#stream) this.#form.showDevices(this.#stream); });
      }
    }
    const hasVideo = (stream?.getVideoTracks().length ?? 0) > 0;
    const hasAudio = (stream?.getAudioTracks().length ?? 0) > 0;
    this.#start.hidden = live;
    this.#start.disabled = busy;
    this.#stop.hidden = !live;
    this.#mute.hidden = !hasAudio;
    this.#hide.hidden = !hasVideo;
    toggle(this.#mute, studio.muted, ['microphone', 'Mute'], ['microphoneOff', 'Muted']);
    toggle(this.#hide, studio.hidden, [studio.wish?.source === 'screen' ? 'screen' : 'camera', 'Hide'], ['cameraOff', 'Hidden']);
    this.#placeholder.hidden = hasVideo && !studio.hidden;
    fill(this.#placeholder, this.#placeholderContent(stream, hasVideo, busy));
    this.element.classList.toggle('is-live', live);
    this.#form.lock(live, studio.wish?.source);
    this.#share.hidden = !live;
    if (!live) this.#stats.element.hidden = true;
    else if (publisher.state === 'reconnecting') this.#stats.update(null, null, []);
    this.#showLive();
  }

  #showLive() {
    const { live, publisher } = studio;
    const status = publisher ? statusOf(publisher, ON_AIR) : { text: '', tone: 'quiet' };
    if (publisher) announceState(publisher, ON_AIR);
    const ended = publisher?.state === 'ended';
    this.#state.set(ended && this.#stream ? '' : status.text, status.tone);
    this.#viewers.set(live && publisher.viewers !== null ? plural(publisher.viewers, 'viewer') : '', 'quiet');
    const recording = publisher?.recording;
    const [text, tone] = RECORDING_CHIPS[recording?.state] ?? ['', 'quiet'];
    this.#recording.set(live ? text : '', tone);
    this.#recording.element.title = recording?.error ?? recording?.file ?? '';
    this.#recordingLine.show(live ? publisher : null);
    const connected = live && publisher.state === 'connected';
    this.#videoCheck.set(...(connected ? VIDEO_CHECK_CHIPS[publisher.videoCheck] : ['', 'quiet']));
    if (navigator.mediaDevices?.getUserMedia) this.#problem.set(studio.problem ?? publisher?.problem ?? null);
  }

  #attach(publisher) {
    if (this.#publisher === publisher) return;
    this.#publisher = publisher;
    this.#offSample?.();
    this.#offSample = null;
    if (!publisher) return;
    this.#log.attach(publisher.log);
    this.#stats.element.hidden = true;
    this.#offSample = publisher.on('sample', (sample) => {
      if (!studio.live) return; // one that was under way when it ended
      this.#stats.element.hidden = false;
      this.#stats.update(sample, publisher.latency_ms, publisher.stats?.history);
    });
    this.#log.element.hidden = false;
    fill(this.#share, shareLink(publisher));
  }

  #offSample = null;

  #placeholderContent(stream, hasVideo, busy) {
    if (busy && !stream) return [h('p', {}, 'Waiting for the browser’s permission…')];
    if (stream && !hasVideo) return [h('p', {}, 'Sound only')];
    if (stream && studio.hidden) return [h('p', {}, 'The picture is hidden: viewers see black')];
    return [
      h('p', {}, studio.publisher ? 'The broadcast has ended.' : 'Nothing is sent before you start.'),
      studio.publisher?.recording?.file
        ? h('a', { class: 'button', href: `#/recordings?play=${encodeURIComponent(studio.publisher.recording.file)}`, 'data-testid': 'to-recordings' }, icon('play'), 'Watch the recording')
        : h('button', { type: 'button', class: 'button', 'data-testid': 'show-preview', onclick: () => studio.preview(this.#form.wish) }, icon('eye'), 'Preview'),
    ];
  }
}

function toggle(button, on, [offIcon, offText], [onIcon, onText]) {
  const key = `${on}${offIcon}`;
  if (button.dataset.shown === key) return;
  button.dataset.shown = key;
  button.setAttribute('aria-pressed', String(on));
  fill(button, icon(on ? onIcon : offIcon), on ? onText : offText);
}

function shareLink({ room, user }) {
  const url = new URL(watchHref(room, user), location.href).href;
  const input = h('input', { value: url, readonly: true, 'aria-label': 'Link for viewers', 'data-testid': 'watch-link', onfocus: () => input.select() });
  const copied = h('span', { class: 'hint', role: 'status' });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(url);
      setText(copied, 'Copied');
    } catch {
      input.focus(); // selected: Ctrl-C does it where the clipboard is not open to pages
      setText(copied, 'Press Ctrl-C');
    }
  };
  return [
    h('span', { class: 'share-label' }, 'Link for viewers'), input,
    h('button', { type: 'button', class: 'button', onclick: copy, 'data-testid': 'copy-link' }, icon('copy'), 'Copy'), copied,
  ];
}
