// A worker's memory plan as bars: which row has which colour, and what belongs together. Pure.

const COLOURS = {
  weights: "series-1",
  "kv full": "series-3",
  "kv sliding": "series-7",
  vision: "series-4",
  workspace: "series-2",
  graphs: "series-5",
  context: "series-8",
  process: "series-8",
  steering: "series-6",
  inputs: "series-6",
  gathered: "series-6",
};

/** The class of a row's colour. The reserve has none: nobody takes it. */
export function rowColour(name) {
  return name === "reserve" ? "untaken" : (COLOURS[name] ?? "series-6");
}

/** What a row takes as far as is known: measured, else planned. The reserve is not taken. */
export function takenBytes(row) {
  if (row.name === "reserve") return 0;
  return row.measured_bytes ?? row.planned_bytes;
}

/**
 * Both bars on one scale: `{total, planned, measured, plannedBytes, measuredBytes}`, where each part of a bar is
 * `{name, bytes, share, colour}`. `measured` is null where nothing was measured yet.
 */
export function bars(rows) {
  const plannedBytes = rows.reduce((sum, row) => sum + row.planned_bytes, 0);
  const isMeasured = rows.some((row) => row.measured_bytes !== null);
  const measuredBytes = isMeasured ? rows.reduce((sum, row) => sum + takenBytes(row), 0) : null;
  const total = Math.max(1, plannedBytes, measuredBytes ?? 0);
  const part = (bytesOf) => (row) => ({
    name: row.name,
    bytes: bytesOf(row),
    share: bytesOf(row) / total,
    colour: rowColour(row.name),
  });
  return {
    total,
    plannedBytes,
    measuredBytes,
    planned: rows.map(part((row) => row.planned_bytes)).filter(({ bytes }) => bytes > 0),
    measured: isMeasured ? rows.map(part(takenBytes)).filter(({ bytes }) => bytes > 0) : null,
  };
}
