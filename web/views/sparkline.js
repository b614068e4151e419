// Sparkline: the course of one number over the last minute, without axes.

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 120;
const HEIGHT = 24;
const POINTS = 60;

export class Sparkline {
  element = document.createElementNS(SVG, 'svg');
  #line = document.createElementNS(SVG, 'polyline');

  constructor(title) {
    this.element.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute('preserveAspectRatio', 'none');
    this.element.setAttribute('class', 'sparkline');
    this.element.setAttribute('role', 'img');
    this.element.setAttribute('aria-label', title);
    this.element.append(this.#line);
  }

  draw(values) {
    if (!values.some((value) => value > 0)) values = []; // else a dot on the ground
    const top = Math.max(1, ...values);
    const start = POINTS - values.length;
    this.#line.setAttribute('points', values.map((value, index) =>
      `${(((start + index) / (POINTS - 1)) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`).join(' '));
  }
}
