// What the page knows of the daemon. Events go in, views read. It touches nothing but the store that it is given.

export const LIVE_SECONDS = 900;
export const LOG_LINES = 1000;

/** The state of a page that has heard nothing. */
export function emptyStore() {
  return { points: [], log: [], snapshot: null, heardAt: null };
}

/** Take a `live` or `snapshot` event; unknown ones are left alone. `now` is in seconds. */
export function take(store, event, data, now) {
  if (event === "live") {
    store.points = data.points.slice(-LIVE_SECONDS);
  } else if (event === "snapshot") {
    if (store.snapshot !== null && store.snapshot.overview.pid !== data.overview.pid) store.log = []; // it counts anew
    store.snapshot = data;
    store.heardAt = now;
    if (data.point !== null) addPoint(store.points, data.point);
    addLines(store, data.log);
  }
  return store;
}

/** Add a point unless it is there; the oldest go. */
export function addPoint(points, point) {
  const last = points.at(-1);
  if (last !== undefined && point.at <= last.at) return;
  points.push(point);
  const oldest = point.at - LIVE_SECONDS;
  let gone = 0;
  while (points[gone].at < oldest) gone += 1;
  if (gone > 0) points.splice(0, gone);
}

/** Lines that follow those that are known. Without any new one the array stays the same. */
function addLines(store, lines) {
  const last = store.log.at(-1)?.number ?? 0;
  const fresh = lines.filter((line) => line.number > last);
  if (fresh.length > 0) store.log = [...store.log, ...fresh].slice(-LOG_LINES);
}

/** Lines of at least this severity that contain the text, whatever its case. */
export function linesWith(log, { severity, text, severityOf, wordsOf }) {
  const wanted = text.trim().toLowerCase();
  return log.filter(
    (line) => severityOf(line.level) >= severity && (wanted === "" || wordsOf(line).toLowerCase().includes(wanted)),
  );
}

/** Settings whose key, value or meaning has the text; those that are not at their default come first. */
export function settingsLike(settings, text) {
  const wanted = text.trim().toLowerCase();
  const found = settings.filter(({ section, key, value, doc }) =>
    `${section}.${key} ${value ?? ""} ${doc ?? ""}`.toLowerCase().includes(wanted),
  );
  return [...found.filter((setting) => !setting.default), ...found.filter((setting) => setting.default)];
}
