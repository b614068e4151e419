// Problems: what went wrong in the reader's words, and what to do about it: { code, title, advice, detail? }.

import { candidateText } from './sdp.js';
import { codec as codecName } from './format.js';
import { NAME_RULE } from './names.js';

const problem = (code, title, advice, detail) => ({ code, title, advice, detail });

export function insecureContext() {
  return problem('insecure-context', 'The browser does not give this page a camera or microphone.',
    `Browsers allow that only over HTTPS or on localhost, and this page came from ${location.origin}. Open it as https://…, or on the server's own machine as http://localhost:${location.port || 80}.`);
}

/** What getUserMedia and getDisplayMedia throw. `source` is camera or screen; `missing` names the devices there are none of. */
export function captureProblem(error, { source, video, audio, missing }) {
  const wanted = source === 'screen' ? 'screen' : [video && 'camera', audio && 'microphone'].filter(Boolean).join(' and ');
  switch (error.name) {
    case 'NotAllowedError':
      return source === 'screen'
        ? problem('capture-refused', 'The screen was not shared.', 'Press start again and choose a screen, window or tab. On macOS also allow the browser under System Settings → Privacy → Screen Recording.')
        : problem('capture-refused', `The browser may not use the ${wanted}.`, 'Allow it with the camera symbol in the address bar (or in the site settings), then start again. If the browser did not ask, the operating system may be refusing it.');
    case 'NotFoundError':
    case 'DevicesNotFoundError':
      return problem('no-device', `No ${missing || wanted} was found.`, 'Plug one in, or send only what there is: switch video or sound off in the settings. A screen can be shared without a camera.');
    case 'NotReadableError':
    case 'AbortError':
      if (source === 'screen') return problem('device-busy', 'The operating system does not give the screen to the browser.', 'Allow screen recording for the browser in the system settings, or choose a window or a tab instead.', error.message);
      return problem('device-busy', `The ${wanted} cannot be opened.`, 'Another program may be using it. Close that program, or choose another device, and start again.', error.message);
    case 'OverconstrainedError':
      return problem('device-gone', 'The chosen device is not there any more.', 'Choose another one from the list.', error.message);
    case 'InvalidStateError':
      return problem('needs-click', 'The browser shares a screen only after a click.', 'Press start.');
    case 'TypeError':
    case 'NotSupportedError':
      return problem('unsupported', source === 'screen' ? 'This browser cannot share a screen.' : 'This browser cannot do that.', 'Phones mostly cannot share their screen from a web page. Use the camera, or a desktop browser.', error.message);
    default:
      return problem('capture-failed', `The ${wanted} could not be started.`, 'Try another device or reload the page.', `${error.name}: ${error.message}`);
  }
}

/** An `error` of the server, or a failed request. */
export function serverProblem({ code, message, broadcast, fatal }) {
  const say = (title, advice) => problem(code, title, advice, message);
  switch (code) {
    case 'name-taken':
      return say('This broadcast was taken over.', 'Someone (perhaps you, in another tab) started a broadcast under the same room and name. To take it back, start again; to keep both, choose another name.');
    case 'unauthorized':
      if (fatal) return say('This broadcast was ended by an operator.', 'Ask whoever runs the server before you start it again.');
      return say('The server does not allow this.', 'You need a token that is valid for this room and name. Ask whoever runs the server, and enter it here.');
    case 'bad-name':
      return say('The server does not take this room or name.', NAME_RULE);
    case 'unsupported-codec':
      return broadcast
        ? say(`This browser cannot play the video of ${broadcast}.`, 'The sound goes on. Try another browser, or ask the broadcaster to choose VP8, which every browser plays.')
        : say('The server does not take this codec.', 'Choose another codec, or “Automatic”, and start again.');
    case 'too-many':
      if (broadcast) return say(`${broadcast} is not shown.`, 'The server sends only so many broadcasts at a time. Hide another one to see it.');
      return say('The server or the room is full.', 'This page tries again by itself; it works as soon as someone leaves.');
    case 'bad-sdp':
      return say('The server did not understand what this browser offers.', 'Try another codec or another browser, and report the text below to whoever runs the server.');
    case 'no-reply':
    case 'gone':
      return say('The server does not answer.', 'This page tries again by itself. If it lasts, check that the server is running and reachable.');
    default:
      return say('The server reported an error.', 'This page tries again by itself. If it comes back, report the text below to whoever runs the server.');
  }
}

/** The browser's own WebRTC refused something: `error` is its DOMException. */
export function negotiationProblem(error) {
  return problem('negotiation', 'This browser and the server do not agree.', 'Reload the page, or try another codec or another browser. If it comes back, report the text below to whoever runs the server.', `${error.name}: ${error.message}`);
}

export function codecRefused(name) {
  return problem('unsupported-codec', name ? `The server does not take ${codecName(name)}.` : 'The server takes none of this browser\'s video codecs.',
    'Choose another codec and start again, or send sound only.');
}

/** Why the server does not begin or end a recording, in one sentence or two: `error` is that of the API. */
export function recordingRefused(error, on) {
  const what = on ? 'start a recording' : 'stop the recording';
  switch (error.status) {
    case 401:
      return `To ${what} takes a token that allows it. Ask whoever runs the server for one.`;
    case 403:
      return `Your token does not allow you to ${what}. Ask whoever runs the server for one that does.`;
    default:
      return `The server did not ${what}: ${error.message}.`;
  }
}

export function unsupportedBrowser() {
  return problem('unsupported', 'This browser has no WebRTC.', 'Use a current Chrome, Edge, Firefox or Safari, and see that no extension or policy switches WebRTC off.');
}

/** ICE found no path: both sides' candidates by name, and the port that has to be open. */
export function unreachable(local, remote) {
  const ports = [...new Set(remote.filter(({ protocol }) => protocol === 'udp').map(({ port }) => port))];
  const list = (candidates) => (candidates.length ? candidates.map(candidateText).join(', ') : 'none');
  const advice = ports.length
    ? `UDP does not get through. Open UDP port ${ports.join(' and ')} to the server (firewall, router, cloud security group, Docker's -p ${ports[0]}:${ports[0]}/udp). If the server's address below is not one you can reach from here, the server must be started with --public-ip and its public address. Some company and hotel networks block UDP altogether: try another network.`
    : 'The server named no address for media. It must be started with --public-ip and its public address.';
  return problem('unreachable', 'No connection for media.', advice, `Server's addresses: ${list(remote)}. This browser tried: ${list(local)}.`);
}

export function handshakeFailed() {
  return problem('handshake', 'The secure handshake (DTLS) does not finish.', 'The first packets get through, larger ones may not: a VPN or a firewall with a small packet size (MTU) can cause this. Try another network.');
}

/** `source` is screen, camera or microphone. */
export function sourceEnded(source) {
  return source === 'screen'
    ? problem('source-ended', 'Screen sharing was stopped.', 'Start again to share another screen, window or tab.')
    : problem('source-ended', `The ${source} stopped.`, 'It may have been unplugged or taken by another program. Choose another one, or start again.');
}
