// Points as columns of numbers, the shape that uPlot draws. Pure.

/** Columns `[at, ...values]` of live points; `readers` are functions of a point. */
export function columns(points, readers) {
  return [points.map((point) => point.at), ...readers.map((read) => points.map((point) => read(point) ?? null))];
}

/** The names of all workers in live points, in the order of their first appearance from the newest point back. */
export function workerNames(points) {
  const names = new Set();
  for (let index = points.length - 1; index >= 0; index -= 1) {
    for (const worker of points[index].workers) names.add(worker.name);
  }
  return [...names];
}

/** Columns `[at, ...one a worker]` of live points. */
export function columnsByWorker(points, names, read) {
  const places = new Map(names.map((name, index) => [name, index]));
  const values = names.map(() => new Array(points.length).fill(null));
  points.forEach((point, row) => {
    for (const worker of point.workers) {
      const place = places.get(worker.name);
      if (place !== undefined) values[place][row] = read(worker) ?? null;
    }
  });
  return [points.map((point) => point.at), ...values];
}

/**
 * Columns `[at, ...one a worker]` of samples from the history. Workers that were sampled within the same `width`
 * seconds share a row, and a row of nothing stands where there are no samples for long: the daemon was away.
 */
export function columnsOfSamples(samples, names, { read, width = 1 }) {
  const rows = new Map();
  const places = new Map(names.map((name, index) => [name, index]));
  for (const sample of samples) {
    const place = places.get(sample.worker);
    if (place === undefined) continue;
    const at = Math.round(sample.at / width) * width;
    if (!rows.has(at)) rows.set(at, new Array(names.length).fill(null));
    rows.get(at)[place] = read(sample) ?? null;
  }
  for (const at of absences([...rows.keys()], width)) rows.set(at, new Array(names.length).fill(null));
  const times = [...rows.keys()].sort((one, other) => one - other);
  return [times, ...names.map((_, place) => times.map((at) => rows.get(at)[place]))];
}

/** A moment in each pause that is much longer than pauses usually are. */
function absences(moments, width) {
  const times = moments.sort((one, other) => one - other);
  const pauses = times.slice(1).map((at, index) => at - times[index]);
  const usual = Math.max(width, [...pauses].sort((one, other) => one - other)[Math.floor(pauses.length / 2)] ?? 0);
  return pauses.flatMap((pause, index) => (pause > 4 * usual ? [times[index] + pause / 2] : []));
}

/** Of the fuller page pool, 0 to 1; null before a worker is ready. */
export function kvUsage(sample) {
  if (!sample.full_pages && !sample.sliding_pages) return null;
  const full = sample.full_pages_used / Math.max(1, sample.full_pages);
  return Math.max(full, sample.sliding_pages_used / Math.max(1, sample.sliding_pages));
}

/** The latest, smallest and largest number of a column; null if it has none. */
export function extremes(column) {
  let [latest, least, most] = [null, null, null];
  for (const value of column) {
    if (value === null || value === undefined) continue;
    latest = value;
    if (least === null || value < least) least = value;
    if (most === null || value > most) most = value;
  }
  return latest === null ? null : { latest, least, most };
}

/** One sentence about a chart for those who do not see it. */
export function summary(title, series, data, format) {
  const told = series.map(({ label }, index) => {
    const found = extremes(data[index + 1] ?? []);
    if (found === null) return `${label}: nothing`;
    return `${label}: now ${format(found.latest)}, between ${format(found.least)} and ${format(found.most)}`;
  });
  return told.length === 0 ? `${title}. Nothing to show.` : `${title}. ${told.join("; ")}.`;
}
