// Raw: what runs inside a blank page: WebSocket, peer connection and fetch without the page's own code between, for what
// that code hides. These functions are sent to the page as text: they use nothing from outside themselves.

/** Publishes the fake camera by WHIP; leaves `window.whip = { pc, resource }`, returns what the server said. */
export async function publishByWhip({ path, codec }) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 854, height: 480 } });
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  for (const track of stream.getTracks()) {
    const transceiver = pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
    if (track.kind === 'video') transceiver.setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter(({ mimeType }) => mimeType === `video/${codec}`));
  }
  await pc.setLocalDescription();
  const response = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: pc.localDescription.sdp });
  const said = { status: response.status, type: response.headers.get('content-type'), location: response.headers.get('location') };
  const sdp = await response.text();
  if (response.ok) await pc.setRemoteDescription({ type: 'answer', sdp });
  window.whip = { pc, stream, resource: said.location };
  return said;
}

/** Plays by WHEP; leaves `window.whep = { pc, resource, streams }`, returns what the server said. */
export async function playByWhep({ path }) {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const streams = new Set();
  // Muted: nothing else would play without a click; sound is decoded all the same.
  const video = document.body.appendChild(Object.assign(document.createElement('video'), { muted: true, playsInline: true, autoplay: true }));
  pc.ontrack = ({ streams: [stream] }) => {
    streams.add(stream.id);
    video.srcObject = stream;
  };
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.addTransceiver('audio', { direction: 'recvonly' });
  await pc.setLocalDescription();
  const response = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: pc.localDescription.sdp });
  const said = { status: response.status, type: response.headers.get('content-type'), location: response.headers.get('location') };
  const sdp = await response.text();
  if (response.ok) await pc.setRemoteDescription({ type: 'answer', sdp });
  window.whep = { pc, streams, resource: said.location };
  return said;
}

/** { connection, streams, video, audio } of window.whip or window.whep. */
export async function countersOf(name) {
  const { pc, streams } = window[name];
  const all = [...(await pc.getStats()).values()].filter(({ type }) => type === 'inbound-rtp' || type === 'outbound-rtp');
  return { connection: pc.connectionState, streams: streams?.size, video: all.find(({ kind }) => kind === 'video'), audio: all.find(({ kind }) => kind === 'audio') };
}

/** DELETE of the session's resource; returns the status. */
export async function deleteResource(name) {
  return (await fetch(window[name].resource, { method: 'DELETE' })).status;
}

/**
 * Subscribes like a viewer and takes the time from `subscribe` to the first frame that comes out of the decoder.
 * Returns { decoded_ms, shown_ms, negotiated_ms }, all since `subscribe` was sent.
 */
export async function timeJoin({ room, user, within_ms }) {
  const socket = new WebSocket(`ws://${location.host}/ws`);
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject(new Error('no WebSocket')); });
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  pc.createDataChannel('health-check');
  const video = document.body.appendChild(Object.assign(document.createElement('video'), { muted: true, playsInline: true, autoplay: true }));
  const times = {};
  let began;
  const since = () => performance.now() - began;
  const decoded = new Promise((resolve) => {
    pc.ontrack = ({ track }) => {
      if (track.kind !== 'video' || times.tracked) return;
      times.tracked = true;
      video.srcObject = new MediaStream([track]);
      const reader = new MediaStreamTrackProcessor({ track: track.clone() }).readable.getReader();
      const first = reader.read().then(({ value }) => {
        times.decoded_ms = since();
        value.close();
        reader.cancel();
      });
      const shown = new Promise((done) => { video.requestVideoFrameCallback(() => { times.shown_ms = since(); done(); }); });
      Promise.all([first, shown]).then(resolve);
    };
  });
  const failed = new Promise((_, reject) => {
    socket.onmessage = async ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'error') reject(new Error(message.message));
      if (message.type !== 'offer') return;
      await pc.setRemoteDescription({ type: 'offer', sdp: message.sdp });
      await pc.setLocalDescription();
      socket.send(JSON.stringify({ type: 'answer', sdp: pc.localDescription.sdp, seq: message.seq }));
      times.negotiated_ms ??= since();
    };
    setTimeout(() => reject(new Error(`no frame within ${within_ms} ms: ${pc.connectionState}, ${JSON.stringify(times)}`)), within_ms);
  });
  began = performance.now();
  socket.send(JSON.stringify({ type: 'subscribe', room, user }));
  try {
    await Promise.race([decoded, failed]);
  } finally {
    pc.close();
    socket.close();
    video.remove();
  }
  return times;
}
