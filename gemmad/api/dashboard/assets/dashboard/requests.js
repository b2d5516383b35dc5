// Requests that wait or run. Ids are what clients sent: text, whatever they look like.

import { byId, el, keyed, setAttribute, setText } from "../common/dom.js";
import { count, duration, plural } from "../common/format.js";
import { actButton, cancel, setRefusal } from "./acts.js";
import { refusalWords } from "./words.js";

const COLUMNS = [
  ["request", ""],
  ["worker", ""],
  ["age", "number"],
  ["tokens", "number"],
  ["prompt", "number"],
  ["images", "number"],
  ["failovers", "number"],
  ["", "number"],
];
const cancels = new WeakMap();

/** Make the table's frame. */
export function prepareRequests() {
  const head = COLUMNS.map(([text, kind]) =>
    text === "" ? el("td", { class: kind }) : el("th", { scope: "col", class: kind, text }),
  );
  byId("requests").append(
    el(
      "table",
      { class: "requests" },
      el("caption", { class: "off-screen", text: "Requests under way" }),
      el("thead", {}, el("tr", {}, head)),
      el("tbody"),
    ),
    el("p", { class: "empty faint" }),
  );
}

/** Show a snapshot's requests. */
export function showRequests(snapshot, refused) {
  const { requests, overview } = snapshot;
  const place = byId("requests");
  const all = overview.requests.running + overview.requests.waiting;
  setText(byId("requests-words"), requests.length < all ? `the ${count(requests.length)} oldest of ${count(all)}` : "");
  place.querySelector("table").hidden = requests.length === 0;
  const empty = place.querySelector(".empty");
  empty.hidden = requests.length > 0;
  setText(empty, all === 0 ? "None at this moment." : `${plural(all, "request")}, too short to be seen.`);
  const seen = new Map(); // choices of one request share its id
  keyed(place.querySelector("tbody"), requests, {
    key: (listed) => {
      const before = seen.get(listed.request_id) ?? 0;
      seen.set(listed.request_id, before + 1);
      return `${before} ${listed.request_id}`;
    },
    create: (listed) => row(listed, refused),
    update: (node, listed) => showRequest(node, listed, snapshot.may_act),
  });
}

function row(listed, refused) {
  const button = actButton({
    text: "Cancel…",
    label: `Cancel request ${listed.request_id}`,
    refused,
    act: () => cancel(listed),
  });
  const node = el(
    "tr",
    {},
    el("th", { scope: "row", class: "id mono", title: listed.request_id }, el("span", { text: listed.request_id })),
    COLUMNS.slice(1, -1).map(([, kind]) => el("td", { class: kind })),
    el("td", { class: "number" }, button),
  );
  cancels.set(node, button);
  return node;
}

function showRequest(node, listed, mayAct) {
  const cells = [
    listed.worker ?? "waits",
    duration(listed.age_seconds),
    `${count(listed.said_tokens)} / ${count(listed.max_tokens)}`,
    count(listed.prompt_tokens),
    listed.images === 0 ? "" : count(listed.images),
    listed.failovers === 0 ? "" : count(listed.failovers),
  ];
  cells.forEach((text, place) => setText(node.children[place + 1], text));
  node.children[1].className = listed.worker === null ? "faint" : "mono";
  const suspect = listed.suspect ? "Workers that it was with have died, so it runs alone, or waits for that." : null;
  setAttribute(node, "title", suspect);
  node.classList.toggle("suspect", listed.suspect);
  setRefusal(cancels.get(node), refusalWords(mayAct));
}
