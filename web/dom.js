// DOM building. Everything is made with createElement: no markup from strings, so nothing that came from
// the network can become markup, and no style attribute, which the content security policy refuses.

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'muted', 'playsInline', 'controls', 'srcObject', 'open', 'selected', 'required']);

/** `h('button', { class: 'primary', onclick: f }, 'Start')`. False, null and undefined attributes and children are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

/** Replaces all children of `element`. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Sets text only when it differs, so that live regions are not read out again for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let nextId = 0;

/** A labelled form control; `hint` is tied to it for screen readers. */
export function field(label, control, hint) {
  control.id ||= `control-${++nextId}`;
  const hintElement = hint ? h('p', { class: 'hint', id: `${control.id}-hint` }, hint) : null;
  if (hintElement) control.setAttribute('aria-describedby', hintElement.id);
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, hintElement);
}

/** Fills a `<select>` with `[value, text]` pairs, and keeps the choice where it still exists. */
export function setOptions(select, options) {
  const before = select.value;
  fill(select, ...options.map(([value, text]) => h('option', { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child);
  }
}
