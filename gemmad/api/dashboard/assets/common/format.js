// Values as people read them. Pure.

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 7516192768 → "7.00 GiB"; null → "–". */
export function bytes(value, { digits } = {}) {
  if (value === null || value === undefined) return "–";
  let unit = 0;
  let size = Math.abs(value);
  while (size >= 1024 && unit < BINARY.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const wanted = digits ?? (unit === 0 ? 0 : size >= 100 ? 0 : size >= 10 ? 1 : 2);
  return `${value < 0 ? "−" : ""}${size.toFixed(wanted)} ${BINARY[unit]}`;
}

/** 4123.4 → "1h 8m"; two units at most; null → "–". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "m"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts
    .slice(first, first + 2)
    .filter(([count], place) => place === 0 || count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(" ");
}

/** 0.0314 → "31 ms", 2.5 → "2.50 s"; null → "–". */
export function latency(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 10 ? `${seconds.toFixed(2)} s` : `${seconds.toFixed(1)} s`;
}

/** 0.314 → "31 %"; a share that is not nothing is never shown as 0; null → "–". */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share > 0 && share < 0.01) return "<1 %";
  return `${Math.round(share * 100)} %`;
}

/** 1234567 → "1 234 567", with thin spaces that never break. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** 0.4 → "0.4", 12.34 → "12.3", 2890.4 → "2 890". */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) < 100 ? String(Math.round(value * 10) / 10) : count(value);
}

/** "1 request", "2 requests". */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** Seconds since the epoch as the time of day here, "03:04:05". */
export function timeOfDay(seconds) {
  const date = new Date(seconds * 1000);
  const two = (part) => String(part).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
