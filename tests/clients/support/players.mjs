// Players: the JavaScript clients as a page loads them, bundled into one script that leaves them at `window.clients`.

import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const SOURCE = `
  export { WHIPClient as EyevinnPublisher } from '@eyevinn/whip-web-client';
  export { WebRTCPlayer as EyevinnPlayer } from '@eyevinn/webrtc-player';
  export { WHIPClient as MillicastPublisher } from 'whip-whep/whip.js';
  export { WHEPClient as MillicastPlayer } from 'whip-whep/whep.js';
`;

let bundled;
/** Puts the clients into a tab that shows a blank page of the server's origin. */
export async function load(tab) {
  bundled ??= build({
    stdin: { contents: SOURCE, resolveDir: fileURLToPath(new URL('..', import.meta.url)) },
    bundle: true, write: false, format: 'iife', globalName: 'clients', platform: 'browser', logLevel: 'error',
    define: { global: 'window' },
  });
  const [{ text }] = (await bundled).outputFiles;
  await tab.openBlank();
  await tab.page.evaluate(`${text}; window.clients = clients;`);
  // What a client makes of RTCPeerConnection is its own: its counters are asked of all that there are.
  await tab.page.evaluate(() => {
    window.connections = [];
    const Native = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Native {
      constructor(...args) {
        super(...args);
        window.connections.push(this);
      }
    };
  });
}

/** { state, video, audio } of the tab's latest peer connection; `direction` is inbound or outbound. */
export function counters(tab, direction) {
  return tab.page.evaluate(async (type) => {
    const pc = window.connections.at(-1);
    const all = [...(await pc.getStats()).values()];
    const of = (kind) => all.find((entry) => entry.type === type && entry.kind === kind) ?? {};
    const { srtpCipher } = all.find((entry) => entry.type === 'transport') ?? {};
    return {
      state: pc.connectionState, srtpCipher, ufrag: /a=ice-ufrag:(.*)/.exec(pc.remoteDescription?.sdp)?.[1],
      video: { packets: of('video').packetsReceived ?? of('video').packetsSent ?? 0, frames: of('video').framesDecoded ?? of('video').framesEncoded ?? 0 },
      audio: { packets: of('audio').packetsReceived ?? of('audio').packetsSent ?? 0, samples: of('audio').totalSamplesReceived ?? 0 },
    };
  }, `${direction}-rtp`);
}
