// Broadcaster: a tab on the publish route, used as a person uses it.

import { until } from './until.mjs';

export class Broadcaster {
  tab;
  id;
  #room;
  #user;

  constructor(tab, room, user) {
    this.tab = tab;
    this.id = `${room}/${user}`;
    this.#room = room;
    this.#user = user;
  }

  /** `codec`: H264, VP8, VP9 or AV1; `video`, `audio`: false leaves it out. */
  async open({ codec, video = true, audio = true, quality } = {}) {
    const query = new URLSearchParams({ room: this.#room, user: this.#user });
    if (codec) query.set('codec', codec);
    if (quality) query.set('quality', quality);
    if (!video) query.set('video', '0');
    if (!audio) query.set('audio', '0');
    await this.tab.open(`/publish?${query}`);
  }

  /** Presses start and waits until the server has the media. */
  async start() {
    await this.press();
    await this.onAir();
  }

  /** Presses start until it is taken: a press while the preview is being opened is not. */
  press() {
    return until(`${this.tab.name}: start is taken`, async () => {
      if (await this.tab.text('stop') !== null) return true;
      await this.tab.press('start');
      return false;
    }, { every_ms: 500 });
  }

  async onAir() {
    await this.tab.waitSession('publisher', 'is on air', ({ state, videoCheck }) => state === 'connected' && ['ok', 'none'].includes(videoCheck));
    await this.tab.waitText('publish-state', /^On air$/);
  }

  /** Presses stop; resolves when the page says that it is over. */
  async stop() {
    await this.tab.click('stop');
    await this.tab.waitSession('publisher', 'has ended', ({ state }) => state === 'ended');
  }

  /** { video, audio } of its outbound streams; a kind that is not sent is undefined. `camera_fps`: what the camera was set to. */
  sent() {
    return this.tab.page.evaluate(async () => {
      const report = await window.onair.publisher.pc.getStats();
      const of = (kind) => {
        const stats = [...report.values()].find((entry) => entry.type === 'outbound-rtp' && entry.kind === kind);
        return stats && { ...stats, codec: report.get(stats.codecId)?.mimeType };
      };
      const camera = window.onair.publisher.pc.getSenders().find(({ track }) => track?.kind === 'video')?.track;
      return { at_ms: performance.now(), video: of('video'), audio: of('audio'), camera_fps: camera?.getSettings().frameRate ?? null };
    });
  }

  /**
   * Stops after the last frame is out, and returns how many frames were sent in all. A count taken while frames flow is
   * old when stop is pressed; so the picture is taken off the line first, until the count stands still.
   */
  async stopCounted() {
    await this.tab.page.evaluate(() => {
      const sender = window.onair.publisher.pc.getSenders().find(({ track }) => track?.kind === 'video');
      return sender.replaceTrack(null);
    });
    let before = -1;
    const count = await until(`${this.id}: the count of frames sent stands still`, async () => {
      const { framesSent } = (await this.sent()).video;
      const still = framesSent === before;
      before = framesSent;
      return still && { framesSent };
    }, { every_ms: 300 });
    await this.stop();
    return count.framesSent;
  }

  /** The recording chip's state by the session: ready, started, finished, failed, off. */
  waitRecording(state, options) {
    return this.tab.waitSession('publisher', `hears that its recording is ${state}`, ({ recording }) => recording?.state === state, options);
  }
}
