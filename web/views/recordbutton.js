// RecordButton: begins or ends the recording of a broadcast in the list of what is live, for those who came with a token.
//
// A list is filled anew every few seconds: what the server had against a press outlives that, in `refusals`.

import { h } from '../dom.js';
import { icon } from '../icons.js';
import { setRecording } from '../api.js';
import { recordingRefused } from '../problems.js';

const refusals = new Map();

export function recordButton({ id, room, user, recording, recording_error: error }) {
  // One that fails tries again until it is stopped.
  const isWanted = recording || error !== undefined;
  const label = isWanted ? 'Stop recording' : 'Record';
  const refusal = h('p', { class: 'field-error', role: 'alert', 'data-testid': 'record-refusal' }, refusals.get(id));
  const press = async () => {
    button.disabled = true;
    refusals.delete(id);
    try {
      // The next look at the list shows what came of it.
      await setRecording({ room, user }, !isWanted);
    } catch (error) {
      refusals.set(id, recordingRefused(error, !isWanted));
      refusal.textContent = refusals.get(id);
      button.disabled = false;
    }
  };
  const button = h('button', { type: 'button', class: 'button small', 'aria-label': `${label}: ${id}`, 'data-testid': 'record-broadcast', onclick: press },
    icon(isWanted ? 'stop' : 'record'), label);
  return h('div', { class: 'live-card-below' }, button, refusal);
}
