// Capture: camera, microphone and screen as one MediaStream, and the devices there are.

import { captureProblem, insecureContext } from './problems.js';

/** Named picture qualities: height in pixels and the most the encoder may send. */
export const QUALITIES = {
  1080: { width: 1920, height: 1080, maxBitrate_bps: 4_000_000 },
  720: { width: 1280, height: 720, maxBitrate_bps: 2_500_000 },
  480: { width: 854, height: 480, maxBitrate_bps: 1_000_000 },
};
const SCREEN_MAX_BITRATE_BPS = 4_000_000;
const FRAME_RATE = 30;

/** The device id that stands for the sound of a shared screen, tab or window. */
export const SCREEN_SOUND = 'screen-sound';

export class CaptureError extends Error {
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

/** `wish`: { source, video, audio, camera, microphone, quality } → { stream, maxBitrate_bps }, or throws CaptureError. */
export async function capture(wish) {
  if (!navigator.mediaDevices?.getUserMedia) throw new CaptureError(insecureContext());
  try {
    const stream = wish.source === 'screen' && wish.video ? await captureScreen(wish) : await captureCamera(wish);
    for (const track of stream.getVideoTracks()) track.contentHint = wish.source === 'screen' ? 'detail' : 'motion';
    return { stream, maxBitrate_bps: wish.source === 'screen' ? SCREEN_MAX_BITRATE_BPS : quality(wish).maxBitrate_bps };
  } catch (error) {
    throw error instanceof CaptureError ? error : new CaptureError(captureProblem(error, { ...wish, missing: await missingOf(wish) }));
  }
}

export function stopStream(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** { cameras, microphones } as [{ id, label }]. Labels are empty until the browser was allowed to use one. */
export async function devices() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const of = (kind, word) => all.filter((device) => device.kind === kind && device.deviceId)
    .map(({ deviceId, label }, index) => ({ id: deviceId, label: label || `${word} ${index + 1}` }));
  return { cameras: of('videoinput', 'Camera'), microphones: of('audioinput', 'Microphone') };
}

/** Calls back when a device is plugged in or out. Returns the function that ends it. */
export function onDeviceChange(callback) {
  navigator.mediaDevices?.addEventListener?.('devicechange', callback);
  return () => navigator.mediaDevices?.removeEventListener?.('devicechange', callback);
}

/** True when the camera or microphone can be opened without a question to the user. */
export async function alreadyAllowed({ video, audio }) {
  const names = [video && 'camera', audio && 'microphone'].filter(Boolean);
  try {
    const states = await Promise.all(names.map((name) => navigator.permissions.query({ name })));
    return names.length > 0 && states.every(({ state }) => state === 'granted');
  } catch {
    return false; // Firefox before 131 does not know these names.
  }
}

async function captureCamera(wish) {
  return navigator.mediaDevices.getUserMedia({
    video: wish.video && wish.source !== 'screen' ? cameraConstraints(wish) : false,
    audio: wish.audio ? microphoneConstraints(wish) : false,
  });
}

// The browser says only that something is missing; the list of devices says what.
async function missingOf({ video, audio }) {
  const kinds = new Set((await navigator.mediaDevices.enumerateDevices().catch(() => [])).map(({ kind }) => kind));
  return [video && !kinds.has('videoinput') && 'camera', audio && !kinds.has('audioinput') && 'microphone'].filter(Boolean).join(' or ');
}

async function captureScreen(wish) {
  const wantsScreenSound = wish.audio && wish.microphone === SCREEN_SOUND;
  const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: FRAME_RATE }, audio: wantsScreenSound });
  if (!wish.audio || wantsScreenSound) return stream;
  try {
    const sound = await navigator.mediaDevices.getUserMedia({ audio: microphoneConstraints(wish) });
    for (const track of sound.getAudioTracks()) stream.addTrack(track);
    return stream;
  } catch (error) {
    stopStream(stream);
    throw new CaptureError(captureProblem(error, { source: 'camera', video: false, audio: true }));
  }
}

const quality = (wish) => QUALITIES[wish.quality] ?? QUALITIES[720];

function cameraConstraints(wish) {
  const { width, height } = quality(wish);
  return {
    width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: FRAME_RATE },
    ...(wish.camera ? { deviceId: { exact: wish.camera } } : {}),
  };
}

function microphoneConstraints(wish) {
  if (!wish.microphone || wish.microphone === SCREEN_SOUND) return true;
  return { deviceId: { exact: wish.microphone } };
}
