// Sdp: the little this page reads from and writes into session descriptions.

/** Candidates named in a description, as [{ protocol, address, port, type }], without doubles. */
export function candidatesOf(sdp) {
  const found = new Map();
  for (const line of (sdp ?? '').split(/\r?\n/)) {
    if (!line.startsWith('a=candidate:')) continue;
    const words = line.slice('a=candidate:'.length).trim().split(/\s+/);
    const [, , protocol, , address, port] = words;
    const type = words[words.indexOf('typ') + 1];
    if (!address || !port || words.includes('active')) continue; // active TCP has no port of its own: nothing to tell
    found.set(`${protocol} ${address} ${port}`, { protocol: protocol.toLowerCase(), address, port: Number(port), type });
  }
  return [...found.values()];
}

/** "udp 192.0.2.1:8189 (host)"; an mDNS name stands for an address the browser keeps to itself. */
export function candidateText({ protocol, address, port, type }) {
  const host = address.includes(':') ? `[${address}]` : address;
  const hidden = address.endsWith('.local') ? 'an address the browser hides' : host;
  return `${protocol} ${hidden}:${port} (${type})`;
}

/** Asks for stereo in every Opus format of an answer: browsers play mono unless told. */
export function withStereo(sdp) {
  const opus = new Set([...sdp.matchAll(/^a=rtpmap:(\d+) opus\//gim)].map((match) => match[1]));
  return sdp.replace(/^a=fmtp:(\d+) ([^\r\n]*)/gm, (line, payloadType, parameters) =>
    (opus.has(payloadType) && !/(^|;)\s*stereo=/.test(parameters) ? `${line};stereo=1` : line));
}

/** Drops attributes of payload types that their m-line does not list: Firefox leaves the feedback of codecs that were
 *  not preferred behind, and strict parsers refuse the whole description for it. */
export function withoutOrphans(sdp) {
  let listed = null;
  return sdp.split('\r\n').filter((line) => {
    if (line.startsWith('m=')) listed = new Set(line.split(' ').slice(3));
    const payloadType = /^a=(?:rtcp-fb|rtpmap|fmtp):(\d+) /.exec(line)?.[1];
    return payloadType === undefined || listed === null || listed.has(payloadType);
  }).join('\r\n');
}
