// Token form: where a token is typed in, or forgotten. The page begins anew with it.

import { h, field } from '../dom.js';
import { keepToken, token } from '../token.js';

export function tokenForm() {
  const input = h('input', { type: 'password', name: 'token', required: true, autocomplete: 'off', spellcheck: 'false', 'data-testid': 'token' });
  const begin = (text) => {
    keepToken(text);
    location.reload();
  };
  const submit = (event) => {
    event.preventDefault();
    if (input.value.trim()) begin(input.value.trim());
  };
  return h('form', { class: 'inline-form', onsubmit: submit, novalidate: true, 'data-testid': 'token-form' },
    field(token() ? 'Another token' : 'Token', input),
    h('button', { class: 'button', 'data-testid': 'token-use' }, 'Use it'),
    token() ? h('button', { type: 'button', class: 'button', onclick: () => begin(''), 'data-testid': 'token-forget' }, 'Forget the token') : null);
}

/** The same, folded away: for lists that may have more to show. */
export function foldedTokenForm() {
  return h('details', { class: 'token', 'data-testid': 'token-details' },
    h('summary', {}, token() ? 'You are here with a token' : 'I have a token'), tokenForm());
}
