// The dashboard: events in, views redrawn.

import { bindCopy, byId, setText } from "../common/dom.js";
import { timeOfDay } from "../common/format.js";
import { takeToken } from "../common/keys.js";
import { bindThemeSwitch } from "../common/theme.js";
import { actButton, recycleAll, setRefusal } from "./acts.js";
import { showAlerts } from "./alerts.js";
import { Connection } from "./connection.js";
import { Graphs } from "./graphs.js";
import { Log } from "./log.js";
import { prepareRequests, showRequests } from "./requests.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { emptyStore, take } from "./store.js";
import { prepareSummary, setBadge, showSummary } from "./summary.js";
import { refusalWords } from "./words.js";
import { showWorkers } from "./workers.js";

const CONNECTION = {
  connecting: { word: "connecting", kind: "busy", icon: "spin" },
  live: { word: "live", kind: "ok", icon: "check" },
  lost: { word: "connection lost", kind: "bad", icon: "warning" },
  paused: { word: "paused", kind: "idle", icon: "pause" },
  refused: { word: "not signed in", kind: "warn", icon: "warning" },
};

let store = emptyStore();
let isDue = false;

takeToken();
bindThemeSwitch(byId("theme"));
prepareSummary();
prepareRequests();
bindCopy(byId("welcome-copy"), () => byId("welcome-curl").textContent);

const connection = new Connection({ onEvent, onState });
const session = new Session(() => connection.start());
const refused = (reason) => session.ask(reason);
const graphs = new Graphs();
const log = new Log();
const settings = new Settings(refused);
const recycleAllButton = actButton({ text: "Recycle all…", label: "Recycle all workers", refused, act: recycleAll });
byId("recycle-all").replaceWith(recycleAllButton);
document.addEventListener("visibilitychange", draw);
setBadge(byId("connection"), CONNECTION.connecting);
connection.start();

function onEvent(event, value) {
  store = take(store, event, value, Date.now() / 1000);
  if (event !== "snapshot") return;
  session.admitted(value.may_act);
  draw();
}

function onState({ state, error }) {
  if (state === "refused") {
    if (session.refused(error)) return;
    byId("page").hidden = true;
    byId("loading").hidden = true;
    byId("stale").hidden = true;
    store = emptyStore();
  }
  const isLost = state === "connecting" && (store.snapshot !== null || error !== null);
  setBadge(byId("connection"), isLost ? CONNECTION.lost : CONNECTION[state]);
  if (state !== "refused") showStale(isLost, error);
}

/** Say that what is shown is old, and why; what is shown stays, greyed. */
function showStale(isLost, error) {
  const stale = byId("stale");
  stale.hidden = !isLost;
  byId("page").classList.toggle("stale", isLost);
  if (!isLost) return;
  byId("loading").hidden = true;
  const why = error?.message ?? "The connection was cut.";
  const shown = store.heardAt === null ? "" : ` This is what was known at ${timeOfDay(store.heardAt)}.`;
  setText(stale, `${why}${shown} Trying again…`);
}

/** At most once a frame, and never while nobody can see it. */
function draw() {
  if (isDue || document.hidden || store.snapshot === null) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    if (store.snapshot !== null) show(store.snapshot);
  });
}

function show(snapshot) {
  byId("loading").hidden = true;
  byId("page").hidden = false;
  showSummary(snapshot);
  showAlerts(snapshot.alerts);
  showWelcome(snapshot.overview);
  showWorkers(snapshot, refused);
  setRefusal(recycleAllButton, refusalWords(snapshot.may_act));
  graphs.show(store.points);
  showRequests(snapshot, refused);
  log.show(store.log);
  settings.show(snapshot);
}

/** A daemon that was never asked anything tells how to. */
function showWelcome(overview) {
  const isNew = overview.state === "ready" && overview.requests.total === 0 && overview.models.length > 0;
  byId("welcome").hidden = !isNew;
  if (!isNew) return;
  const body = JSON.stringify({ model: overview.models[0], messages: [{ role: "user", content: "Hello!" }] });
  const where = overview.url.startsWith("unix:")
    ? `--unix-socket ${overview.url.slice("unix:".length)} http://gemmad/v1`
    : `${overview.url}/v1`;
  const quoted = `'${body.replaceAll("'", "'\\''")}'`;
  setText(byId("welcome-curl"), `curl ${where}/chat/completions -H 'content-type: application/json' -d ${quoted}`);
}
