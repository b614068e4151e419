// Codecs: what this browser can send, and how one is asked for.

import { codec as codecName } from './format.js';

const ALWAYS = new Set(['rtx', 'red', 'ulpfec', 'flexfec-03']);

/** Video codecs this browser can send, by their SDP names: ["VP8", "H264", …]. */
export function sendableVideoCodecs() {
  const names = [];
  for (const { mimeType } of capabilities()) {
    const name = mimeType.split('/')[1];
    if (!ALWAYS.has(name.toLowerCase()) && !names.includes(name)) names.push(name);
  }
  return names;
}

/** Limits a transceiver to one codec with all its profiles. Without a name the server's order of preference decides. */
export function preferCodec(transceiver, name) {
  if (!name || !transceiver.setCodecPreferences) return;
  const wanted = name.toLowerCase();
  const all = capabilities();
  const chosen = all.filter(({ mimeType }) => mimeType.split('/')[1].toLowerCase() === wanted);
  if (chosen.length === 0) throw new DOMException(`This browser cannot send ${codecName(name)}.`, 'NotSupportedError');
  transceiver.setCodecPreferences([...chosen, ...all.filter(({ mimeType }) => ALWAYS.has(mimeType.split('/')[1].toLowerCase()))]);
}

function capabilities() {
  return globalThis.RTCRtpSender?.getCapabilities?.('video')?.codecs ?? [];
}
