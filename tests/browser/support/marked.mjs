// Marked devices: a camera and a microphone that mark the same moments, one by a light and one by a beep, so that a file
// can be asked whether they are still one moment. This function is sent to the page as text: it uses nothing from outside
// itself.

/**
 * From now on the page's camera is a drawing of `width`×`height` with a light in its upper left eighth, and its microphone
 * a tone. `window.marks` counts the moments, one every two seconds. Needs leave to play sound without a click.
 */
export function markDevices({ width, height }) {
  const PERIOD_S = 2;
  const MARK_S = 0.25;
  const FRAMES_PER_S = 30;
  const sound = new AudioContext({ sampleRate: 48_000, latencyHint: 'interactive' });
  const tone = new OscillatorNode(sound, { frequency: 1000 });
  const gain = new GainNode(sound, { gain: 0 });
  const out = new MediaStreamAudioDestinationNode(sound, { channelCount: 1 });
  tone.connect(gain).connect(out);
  tone.start();
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const paint = canvas.getContext('2d', { alpha: false });
  const unit = height / 8;
  const first_s = sound.currentTime + 3;
  window.marks = 0;
  let scheduled = 0;
  let count = 0;
  // Not animation frames: the time of a mark is known beforehand, and a timer can be asked for it.
  setInterval(() => {
    const now_s = sound.currentTime;
    while (first_s + scheduled * PERIOD_S < now_s + 1) {
      const at_s = first_s + scheduled * PERIOD_S;
      gain.gain.setValueAtTime(0.8, at_s);
      gain.gain.setValueAtTime(0, at_s + MARK_S);
      scheduled += 1;
    }
    const bright = now_s >= first_s && (now_s - first_s) % PERIOD_S < MARK_S;
    if (bright) window.marks = Math.floor((now_s - first_s) / PERIOD_S) + 1;
    // Things that move, so that there is something to encode and each drawing is a frame of its own.
    paint.fillStyle = '#234';
    paint.fillRect(0, 0, width, height);
    count += 1;
    for (let row = 1; row < 8; row += 1) {
      for (let column = 0; column < 6; column += 1) {
        paint.fillStyle = `hsl(${row * 40 + column * 20} 60% 50%)`;
        paint.fillRect((column * width / 6 + count * row) % width, row * unit, unit, unit * 0.8);
      }
    }
    paint.fillStyle = bright ? '#fff' : '#000';
    paint.fillRect(0, 0, width / 8, height / 8);
    paint.fillRect(width / 2, 0, ((count % FRAMES_PER_S) + 1) * width / 64, unit / 2);
  }, 1000 / FRAMES_PER_S);
  const picture = canvas.captureStream(FRAMES_PER_S);
  navigator.mediaDevices.getUserMedia = async ({ video, audio }) => new MediaStream([
    ...(video ? picture.getVideoTracks() : []), ...(audio ? out.stream.getAudioTracks() : []),
  ].map((track) => track.clone()));
}
