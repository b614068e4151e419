// Studio: what this browser sends: the captured stream and the broadcast it goes out on. There is one, and it outlives
// the publish view, so that looking at another page does not end the broadcast.
//
// Invariant: a captured device is either in `stream` or stopped.
// Event: `change`.

import { Emitter } from './emitter.js';
import { Publisher } from './publisher.js';
import { capture, stopStream } from './capture.js';
import { sourceEnded } from './problems.js';
import { keepAwake } from './wakelock.js';

class Abandoned extends Error {}

class Studio extends Emitter {
  stream = null;
  wish = null;
  publisher = null;
  problem = null;
  busy = false;
  muted = false;
  hidden = false;
  #maxBitrate_bps = 0;
  #visit = 0;

  get live() {
    return this.publisher !== null && this.publisher.state !== 'ended';
  }

  /** Opens the devices of `wish` for the preview. */
  async preview(wish) {
    if (this.live || this.busy) return;
    await this.#work(() => this.#open(wish));
  }

  /** Opens what is not open yet and begins to broadcast. `target`: { room, user, token, codec } */
  async goLive(wish, target) {
    if (this.live || this.busy) return;
    await this.#work(async () => {
      if (!this.stream || !sameWish(wish, this.wish) || !allAlive(this.stream)) await this.#open(wish);
      this.#setEnabled('audio', !this.muted);
      this.#setEnabled('video', !this.hidden);
      this.publisher = new Publisher({ ...target, stream: this.stream, source: wish.source, maxBitrate_bps: this.#maxBitrate_bps });
      this.publisher.on('change', () => this.#onPublisher());
      if (wish.audio && this.stream.getAudioTracks().length === 0) this.publisher.log.add('What is shared has no sound; choose a microphone to be heard', 'warn');
      this.publisher.start();
      keepAwake(true);
    });
  }

  stop() {
    this.publisher?.stop();
    this.close();
  }

  /** The view is left: what is not live is closed, also a device that the browser still asks the user about. */
  leave() {
    if (this.live) return;
    this.#visit += 1;
    this.close();
  }

  /** Lets go of camera, microphone and screen. */
  close() {
    stopStream(this.stream);
    this.stream = null;
    this.emit('change');
  }

  /** Another device of one kind ('video' or 'audio'), also while live: the new one is opened first, so nothing is lost
   *  when it cannot be. */
  async switchDevice(kind, wish) {
    if (!this.stream || this.busy) return;
    if (!this.live) {
      await this.preview(wish);
      return;
    }
    await this.#work(async () => {
      const { stream: fresh } = await capture({ ...wish, source: 'camera', video: kind === 'video', audio: kind === 'audio' });
      const [track] = fresh.getTracks();
      const old = this.stream.getTracks().filter((candidate) => candidate.kind === kind);
      if (!track || old.length === 0) {
        stopStream(fresh); // A kind of track that was not there from the start takes a new start.
        return;
      }
      track.enabled = old[0].enabled;
      await this.publisher.replaceTrack(track);
      for (const gone of old) {
        this.stream.removeTrack(gone);
        gone.stop();
      }
      this.stream.addTrack(track);
      this.#watch(track);
      this.wish = wish;
    });
  }

  setMuted(muted) {
    this.muted = muted;
    this.#setEnabled('audio', !muted);
    this.publisher?.log.add(muted ? 'Microphone muted' : 'Microphone on');
    this.emit('change');
  }

  setHidden(hidden) {
    this.hidden = hidden;
    this.#setEnabled('video', !hidden);
    this.publisher?.log.add(hidden ? 'Picture hidden' : 'Picture shown');
    this.emit('change');
  }

  async #work(act) {
    this.busy = true;
    this.problem = null;
    this.emit('change');
    try {
      await act();
    } catch (error) {
      if (!(error instanceof Abandoned)) this.problem = error.problem ?? { code: 'internal', title: 'This page made a mistake.', advice: 'Reload it.', detail: `${error.name}: ${error.message}` };
    }
    this.busy = false;
    this.emit('change');
  }

  async #open(wish) {
    // The old devices go first: many cameras open only once.
    this.close();
    const visit = this.#visit;
    const { stream, maxBitrate_bps } = await capture(wish);
    if (visit !== this.#visit) {
      stopStream(stream);
      throw new Abandoned();
    }
    this.stream = stream;
    this.wish = wish;
    this.#maxBitrate_bps = maxBitrate_bps;
    for (const track of stream.getTracks()) this.#watch(track);
  }

  #watch(track) {
    track.addEventListener('ended', () => {
      if (!this.stream?.getTracks().includes(track)) return;
      this.publisher?.log.add(`${track.kind === 'video' ? 'Picture' : 'Sound'} source ended`, 'warn');
      this.problem = sourceEnded(track.kind === 'video' ? this.wish.source : 'microphone');
      if (track.kind === 'video' && this.wish.source === 'screen') this.stop();
      this.emit('change');
    });
  }

  #onPublisher() {
    if (!this.live) {
      keepAwake(false);
      if (this.publisher.problem) this.close();
    }
    this.emit('change');
  }

  #setEnabled(kind, enabled) {
    for (const track of this.stream?.getTracks() ?? []) if (track.kind === kind) track.enabled = enabled;
  }
}

export const studio = new Studio();

const sameWish = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const allAlive = (stream) => stream.getTracks().every(({ readyState }) => readyState === 'live');
