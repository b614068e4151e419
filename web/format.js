// Format: numbers and times as people read them. A value that is not known yet is a dash.

const DASH = '–';

export function bitrate(bps) {
  if (!Number.isFinite(bps)) return DASH;
  if (bps >= 1e6) return `${(bps / 1e6).toFixed(bps >= 1e7 ? 0 : 1)} Mbit/s`;
  if (bps >= 1e3) return `${Math.round(bps / 1e3)} kbit/s`;
  return `${Math.round(bps)} bit/s`;
}

export function size(bytes) {
  if (!Number.isFinite(bytes)) return DASH;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${bytes.toFixed(unit > 0 && bytes < 100 ? 1 : 0)} ${units[unit]}`;
}

/** 75 → "1:15", 3675 → "1:01:15". */
export function clock(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return DASH;
  const whole = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** How long ago, coarsely: "just now", "12 min", "3 h", "2 days". */
export function age(date, now = new Date()) {
  if (!date) return DASH;
  const minutes = Math.floor((now - date) / 60000);
  if (minutes < 1) return 'less than a minute';
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days`;
}

const DATE_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

export const dateTime = (date) => (date ? DATE_TIME.format(date) : DASH);
export const time = (date) => (date ? TIME.format(date) : DASH);

/** The API's timestamps (RFC 3339) → Date, or null. */
export function timestamp(value) {
  const date = new Date(value ?? NaN);
  return Number.isNaN(date.getTime()) ? null : date;
}

export const milliseconds = (ms) => (Number.isFinite(ms) ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : DASH);
export const frameRate = (fps) => (Number.isFinite(fps) ? `${Math.round(fps)} /s` : DASH);
export const resolution = (width, height) => (width && height ? `${width} × ${height}` : DASH);
export const count = (n) => (Number.isFinite(n) ? String(n) : DASH);

export function percent(ratio) {
  if (!Number.isFinite(ratio)) return DASH;
  const value = Math.max(0, ratio) * 100;
  return value === 0 ? '0 %' : `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

const CODECS = { h264: 'H.264', h265: 'H.265', vp8: 'VP8', vp9: 'VP9', av1: 'AV1', opus: 'Opus' };

/** "video/H264", "H264", "h264" → "H.264". */
export function codec(name) {
  if (!name) return DASH;
  const bare = String(name).split('/').pop().split(';')[0];
  return CODECS[bare.toLowerCase()] ?? bare;
}
