// Witness: when the flashes and beeps of marked devices are seen and heard at a viewer. This function is sent to the page
// as text: it uses nothing from outside itself.
//
// The moments are those at which a picture is shown and a packet of sound is played. The estimates in statistics would
// not do: they are computed from the sender reports that are to be judged. Nor would an audio graph: Firefox runs none
// where there is no sound card.

/** From now on `window.witness` is { flashes, beeps }: moments of one broadcast, in ms of the page's clock. */
export function witnessMarks(broadcast) {
  const LOUD = 0.1;
  const BRIGHT = 128;
  const LISTEN_EVERY_MS = 10;
  const element = document.querySelector(`[data-testid="tile"][data-broadcast="${broadcast}"] video`);
  const [track] = element.srcObject.getAudioTracks();
  const receiver = window.onair.viewer.pc.getReceivers().find((candidate) => candidate.track === track);
  const flashes = [];
  const beeps = [];
  window.witness = { flashes, beeps };

  // A mark that had begun when this did has no beginning: what came before counts as bright and loud.
  const SIDE = 8;
  const paint = Object.assign(document.createElement('canvas'), { width: SIDE, height: SIDE }).getContext('2d', { willReadFrequently: true });
  let wasBright = true;
  const look = (now_ms, { expectedDisplayTime: shown_ms }) => {
    element.requestVideoFrameCallback(look);
    // The middle of the light: its edges are blurred.
    const { videoWidth: width, videoHeight: height } = element;
    paint.drawImage(element, width / 32, height / 32, width / 16, height / 16, 0, 0, SIDE, SIDE);
    const { data } = paint.getImageData(0, 0, SIDE, SIDE);
    let sum = 0;
    for (let index = 0; index < data.length; index += 4) sum += data[index];
    const isBright = sum / (SIDE * SIDE) > BRIGHT;
    if (isBright && !wasBright) flashes.push(shown_ms);
    wasBright = isBright;
  };
  element.requestVideoFrameCallback(look);

  let wasLoud = true;
  setInterval(() => {
    const [source] = receiver.getSynchronizationSources();
    if (source?.audioLevel === undefined) return;
    const isLoud = source.audioLevel > LOUD;
    if (isLoud && !wasLoud) beeps.push(source.timestamp - performance.timeOrigin);
    wasLoud = isLoud;
  }, LISTEN_EVERY_MS);
}
