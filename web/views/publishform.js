// PublishForm: what shall be sent, where to, and how. `wish` and `target` are what the studio takes.

import { h, field, fill, setOptions } from '../dom.js';
import { icon } from '../icons.js';
import { Emitter } from '../emitter.js';
import { devices, QUALITIES, SCREEN_SOUND } from '../capture.js';
import { sendableVideoCodecs } from '../codecs.js';
import { codec as codecName } from '../format.js';
import { defaultRoom, defaultUser, isName, NAME_RULE, recall, remember } from '../names.js';
import { token } from '../token.js';

const QUALITY_WORDS = { 1080: '1080p, sharp', 720: '720p', 480: '480p, light' };

/** Events: `devices` (source, video or audio on or off, quality) · `device` ('video' or 'audio': another one of the kind). */
export class PublishForm extends Emitter {
  element;
  #source = {};
  #video = checkbox('send-video');
  #audio = checkbox('send-audio');
  #camera = h('select', { 'data-testid': 'camera' });
  #microphone = h('select', { 'data-testid': 'microphone' });
  #codec = h('select', { 'data-testid': 'codec' });
  #quality = h('select', { 'data-testid': 'quality' });
  #room = textInput('room');
  #user = textInput('user');
  #error = h('p', { class: 'field-error', role: 'alert', 'data-testid': 'form-error' });
  #cameraField;
  #qualityField;
  #microphoneField;
  #lockable;

  constructor(query) {
    super();
    this.#cameraField = field('Camera', this.#camera);
    this.#microphoneField = field('Microphone', this.#microphone);
    this.#qualityField = field('Quality', this.#quality);
    this.#fillChoices(query);
    const sources = h('fieldset', { class: 'segments' }, h('legend', {}, 'Source'), this.#sourceRadio('camera', 'Camera'), this.#sourceRadio('screen', 'Screen'));
    const kinds = h('fieldset', { class: 'checks' }, h('legend', {}, 'Send'), check(this.#video, 'Video'), check(this.#audio, 'Sound'));
    this.#source[query.get('source') === 'screen' ? 'screen' : 'camera'].checked = true;
    this.#lockable = [...Object.values(this.#source), this.#video, this.#audio, this.#codec, this.#quality, this.#room, this.#user];
    for (const control of [...Object.values(this.#source), this.#video, this.#audio, this.#quality]) {
      control.addEventListener('change', () => { this.#arrange(); this.emit('devices'); });
    }
    this.#camera.addEventListener('change', () => this.emit('device', 'video'));
    this.#microphone.addEventListener('change', () => this.emit('device', 'audio'));
    this.#codec.addEventListener('change', () => remember('codec', this.#codec.value));
    this.element = h('form', { class: 'card settings', 'data-testid': 'publish-form', 'aria-label': 'Broadcast settings', novalidate: true, onsubmit: (event) => { event.preventDefault(); this.emit('submit'); } },
      h('div', { class: 'field-pair' }, field('Room', this.#room), field('Your name', this.#user)),
      this.#error,
      sources, kinds,
      this.#cameraField, this.#microphoneField,
      h('div', { class: 'field-pair' }, this.#qualityField, field('Video codec', this.#codec)),
      // Enter in a text field starts, as the big button does.
      h('button', { class: 'visually-hidden', tabindex: '-1', 'aria-hidden': 'true' }, 'Start'));
    this.#arrange();
  }

  get wish() {
    return {
      source: this.#source.screen.checked ? 'screen' : 'camera',
      video: this.#video.checked,
      audio: this.#audio.checked,
      camera: this.#camera.value,
      microphone: this.#microphone.value,
      quality: Number(this.#quality.value),
    };
  }

  get target() {
    return { room: this.#room.value.trim(), user: this.#user.value.trim(), token: token(), codec: this.#codec.value };
  }

  /** Checks what was typed, says what is wrong with it, and remembers what is right. */
  check() {
    const { room, user } = this.target;
    const wrong = [[this.#room, room, 'Room'], [this.#user, user, 'Your name']].find(([, text]) => !isName(text));
    for (const input of [this.#room, this.#user]) input.setAttribute('aria-invalid', String(wrong?.[0] === input));
    const nothing = !this.#video.checked && !this.#audio.checked;
    fill(this.#error, wrong ? `${wrong[2]}: ${NAME_RULE}` : nothing ? 'Choose video, sound or both.' : '');
    if (wrong) wrong[0].focus();
    if (wrong || nothing) return false;
    remember('room', room);
    remember('user', user);
    return true;
  }

  /** While live, only devices may be changed. */
  lock(live, source) {
    for (const control of this.#lockable) control.disabled = live;
    this.#camera.disabled = live && source === 'screen';
    this.#microphone.disabled = live && this.#microphone.value === SCREEN_SOUND;
  }

  /** Takes over what a running broadcast was started with. */
  showRunning(wish, { room, user }) {
    this.#source[wish.source].checked = true;
    this.#video.checked = wish.video;
    this.#audio.checked = wish.audio;
    this.#room.value = room;
    this.#user.value = user;
    this.#quality.value = String(wish.quality);
    this.#arrange();
  }

  /** Names of devices come only once the browser was allowed to use one; the lists are read again then. */
  async refreshDevices(query) {
    const { cameras, microphones } = await devices();
    const choices = (list, none) => (list.length ? list.map(({ id, label }) => [id, label]) : [['', none]]);
    setOptions(this.#camera, choices(cameras, 'The browser’s choice'));
    setOptions(this.#microphone, [
      ...choices(microphones, 'The browser’s choice'),
      ...(this.#source.screen.checked ? [[SCREEN_SOUND, 'Sound of the shared screen or tab']] : []),
    ]);
    if (query) {
      for (const [select, name] of [[this.#camera, 'camera'], [this.#microphone, 'mic']]) {
        if ([...select.options].some(({ value }) => value === query.get(name))) select.value = query.get(name);
      }
    }
  }

  /** Shows which devices are in use. */
  showDevices(stream) {
    for (const [select, track] of [[this.#camera, stream.getVideoTracks()[0]], [this.#microphone, stream.getAudioTracks()[0]]]) {
      const id = track?.getSettings().deviceId;
      if ([...select.options].some(({ value }) => value === id)) select.value = id;
    }
  }

  #fillChoices(query) {
    const codecs = sendableVideoCodecs();
    const asked = query.get('codec') ?? recall('codec', '');
    const wanted = codecs.find((name) => name.toLowerCase() === asked.toLowerCase());
    setOptions(this.#codec, [['', 'Automatic'], ...codecs.map((name) => [name, codecName(name)])]);
    this.#codec.value = wanted ?? '';
    if (query.get('codec') && !wanted) fill(this.#error, `This browser cannot send ${codecName(asked)}; the codec is chosen automatically.`);
    setOptions(this.#quality, Object.keys(QUALITIES).reverse().map((name) => [name, QUALITY_WORDS[name]]));
    this.#quality.value = query.get('quality') in QUALITIES ? query.get('quality') : '720';
    this.#room.value = query.get('room') ?? defaultRoom();
    this.#user.value = query.get('user') ?? defaultUser();
    this.#video.checked = query.get('video') !== '0';
    this.#audio.checked = query.get('audio') !== '0';
  }

  #sourceRadio(value, label) {
    const input = h('input', { type: 'radio', name: 'source', value, 'data-testid': `source-${value}` });
    this.#source[value] = input;
    input.addEventListener('change', () => this.refreshDevices());
    return h('label', {}, input, h('span', {}, icon(value), label));
  }

  #arrange() {
    const screen = this.#source.screen.checked;
    this.#cameraField.hidden = screen || !this.#video.checked;
    this.#qualityField.hidden = screen || !this.#video.checked;
    this.#microphoneField.hidden = !this.#audio.checked;
  }
}

function checkbox(testid) {
  return h('input', { type: 'checkbox', checked: true, 'data-testid': testid });
}

const check = (input, label) => h('label', {}, input, h('span', {}, label));

function textInput(name) {
  return h('input', { name, required: true, maxlength: 64, autocapitalize: 'off', autocomplete: 'off', spellcheck: 'false', 'data-testid': name });
}
