// Publisher: sends one broadcast, `room/user`, and knows what the server says about it: viewers, recording, whether its
// video arrives.

import { LiveSession } from './livesession.js';
import { setRecording } from './api.js';
import { preferCodec } from './codecs.js';
import { withoutOrphans } from './sdp.js';
import { codecRefused, recordingRefused, serverProblem } from './problems.js';

const VIDEO_OK_FRESH_MS = 3500;
const MAX_FRAME_RATE = 30;
const FULL_SIZE_START_MS = 5000;

export class Publisher extends LiveSession {
  viewers = null;
  /** { state: 'off' | 'ready' | 'started' | 'finished' | 'failed', file, error, duration_s, size_bytes }; the state is null
   *  while unknown */
  recording = null;
  /** Whether the server is to record it: by its own rule, or by request. */
  recordingWanted = false;
  /** { busy, problem }: a request to begin or end the recording, and what the server had against the latest one. */
  recordingRequest = { busy: false, problem: null };
  #options;
  /** Whether the server told of a recording that failed since the latest request. */
  #failedMeanwhile = false;
  /** Whether the latest request was to end the recording. */
  #stopAsked = false;
  #videoOkAt = null;
  #senders = new Map();

  /** `options`: { room, user, token, stream, codec, maxBitrate_bps, source } */
  constructor(options) {
    super();
    this.#options = options;
    this.broadcast = `${options.room}/${options.user}`;
    this.signaling.on('viewers', ({ count }) => this.set({ viewers: Number(count) }));
    this.signaling.on('recording', (message) => this.#onRecording(message));
    this.signaling.on('unregistered', () => {
      if (this.state !== 'ended') this.signaling.reset('the server ended the broadcast');
    });
  }

  get room() { return this.#options.room; }
  get user() { return this.#options.user; }
  get source() { return this.#options.source; }
  get hasVideo() { return this.#options.stream.getVideoTracks().length > 0; }

  /** ok: the server receives the video now · waiting: not yet · lost: it did, and does not any more · none: no video is sent */
  get videoCheck() {
    if (!this.hasVideo) return 'none';
    if (this.#videoOkAt === null) return 'waiting';
    return performance.now() - this.#videoOkAt < VIDEO_OK_FRESH_MS ? 'ok' : 'lost';
  }

  get session() {
    const { broadcast, state, retryAt, problem, viewers, recording, videoCheck, latency_ms } = this;
    return { role: 'broadcaster', broadcast, state, retryAt, problem, viewers, recording, videoCheck, latency_ms };
  }

  /** Stops in order: the server is told, so that viewers and the recording end cleanly. */
  stop() {
    this.signaling.send('unregister');
    this.end();
  }

  /** Sends another track of the same kind from now on (another camera, another microphone); no renegotiation. */
  async replaceTrack(track) {
    await this.#senders.get(track.kind)?.replaceTrack(track);
  }

  /** Asks the server to begin or to end the recording. The broadcast goes on either way. */
  async record(on) {
    const { pc } = this;
    this.set({ recordingRequest: { busy: true, problem: null } });
    this.#failedMeanwhile = false;
    this.#stopAsked = !on;
    let problem = null;
    try {
      await setRecording(this, on);
    } catch (error) {
      // An operator may have stopped it before.
      if (on || error.status !== 409) problem = recordingRefused(error, on);
    }
    if (this.pc !== pc) {
      this.set({ recordingRequest: { busy: false, problem: null } });
      return;
    }
    if (problem) this.log.add(problem, 'warn');
    else this.#onRecordingAsked(on);
    this.set({ recordingRequest: { busy: false, problem } });
  }

  async join(pc) {
    const { stream, codec, room, user, token } = this.#options;
    this.#senders.clear();
    for (const track of stream.getTracks()) this.#addTrack(pc, track, stream, codec);
    if (this.hasVideo) this.#openVideoCheck(pc);
    await pc.setLocalDescription(await pc.createOffer());
    const reply = await this.signaling.request('register', { room, user, token, sdp: withoutOrphans(pc.localDescription.sdp) });
    if (this.pc !== pc) return;
    this.log.add(`Registered as ${this.broadcast}${reply.recording ? '; it will be recorded' : '; it is not recorded'}`, 'good');
    this.set({ recording: { state: reply.recording ? 'ready' : 'off', file: this.recording?.file }, recordingWanted: reply.recording === true });
    this.#stopAsked = false;
    this.joined();
    await pc.setRemoteDescription({ type: 'answer', sdp: reply.sdp });
    if (this.pc !== pc) return;
    this.#checkAccepted(pc, codec);
    this.negotiated();
  }

  async restartIce(pc) {
    const offer = await pc.createOffer({ iceRestart: true });
    await pc.setLocalDescription(offer);
    const reply = await this.signaling.request('offer', { sdp: withoutOrphans(pc.localDescription.sdp) });
    if (this.pc !== pc) return;
    await pc.setRemoteDescription({ type: 'answer', sdp: reply.sdp });
    this.negotiated();
  }

  broadcastOf() {
    return this.broadcast;
  }

  onDisconnected() {
    this.viewers = null;
    this.#videoOkAt = null;
    if (this.recording?.file) this.recording = { state: null, file: this.recording.file };
    else this.recording = null;
    this.recordingWanted = false;
    this.recordingRequest = { busy: false, problem: null };
  }

  // Browsers begin with a small picture and grow it over many seconds, however much bandwidth there is; told to keep the
  // resolution they do not. A camera may be scaled once that phase is over: then motion matters more than detail.
  onConnected() {
    const { pc } = this;
    const video = this.#senders.get('video');
    if (this.source === 'screen' || !video) return;
    setTimeout(() => { if (this.pc === pc) preferDegradation(video, 'balanced'); }, FULL_SIZE_START_MS);
  }

  onServerError(error) {
    if (error.code === 'unsupported-codec' || error.code === 'unauthorized') this.end(serverProblem(error));
    else super.onServerError(error);
  }

  #addTrack(pc, track, stream, codec) {
    const video = track.kind === 'video';
    const transceiver = pc.addTransceiver(track, {
      direction: 'sendonly',
      streams: [stream],
      ...(video ? { sendEncodings: [{ maxBitrate: this.#options.maxBitrate_bps, maxFramerate: MAX_FRAME_RATE }] } : {}),
    });
    this.#senders.set(track.kind, transceiver.sender);
    if (!video) return;
    preferCodec(transceiver, codec);
    preferDegradation(transceiver.sender, 'maintain-resolution');
  }

  #openVideoCheck(pc) {
    const channel = pc.createDataChannel('video-check');
    channel.onmessage = ({ data }) => {
      if (this.pc !== pc || data !== 'video-ok') return;
      const first = this.#videoOkAt === null;
      this.#videoOkAt = performance.now();
      if (first) this.set({});
      if (first) this.log.add('The server receives the video', 'good');
    };
  }

  // An answer may refuse an m-line and still be an answer.
  #checkAccepted(pc, codec) {
    for (const { sender, currentDirection } of pc.getTransceivers()) {
      if (sender === this.#senders.get('video') && currentDirection !== 'sendonly') {
        throw Object.assign(new Error('video refused'), { problem: codecRefused(codec) });
      }
    }
  }

  #onRecordingAsked(on) {
    this.recordingWanted = on;
    const { state, file } = this.recording ?? {};
    // What was begun is finished in a moment, and the server says so. What it says of the new recording may come before its
    // answer to the request.
    if (on && state !== 'started' && !this.#failedMeanwhile) this.recording = { state: 'ready', file };
    else if (!on && state === 'ready') this.recording = { state: 'off', file };
    this.log.add(on ? 'Recording was asked for' : 'The recording was ended');
  }

  #onRecording({ state, file, error, duration_s, size_bytes }) {
    const { state: before, file: known } = this.recording ?? {};
    // The end of one file may be told after the next one has begun or was asked for; what counts now is the newer one.
    const overtaken = state !== 'started' && file && (before === 'started' ? stem(file) !== stem(known) : before === 'ready' && known && stem(file) === stem(known));
    // A recorder that failed tries again by itself, also after the file before has been finished.
    const triesAgain = state === 'finished' && before === 'failed' && this.recordingWanted;
    if (!overtaken && !triesAgain) {
      // One that cannot begin yet, since its disk is not ready, was not promised: it is told as a failure without a file.
      const recordingWanted = state === 'started' || (state === 'failed' && (this.recordingWanted || (!file && !this.#stopAsked)));
      this.set({ recording: { state, file: file ?? known, error, duration_s, size_bytes }, recordingWanted });
    }
    if (state === 'failed' && !file) this.#failedMeanwhile = true;
    if (state === 'failed') this.log.add(`Recording failed${error ? `: ${error}` : ''}; the broadcast goes on`, 'error');
    else this.log.add(`Recording ${state}${file ? `: ${file}` : ''}`, 'good');
  }
}

// A file that grows ends otherwise than the same one when it is finished.
const stem = (file) => String(file).replace(/(\.part)?\.mp4$/, '');

function preferDegradation(sender, preference) {
  const parameters = sender.getParameters();
  parameters.degradationPreference = preference;
  sender.setParameters(parameters).catch(() => { /* a wish; browsers without it do well enough */ });
}
