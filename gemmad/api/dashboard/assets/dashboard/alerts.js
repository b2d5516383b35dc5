// Thresholds that are crossed, and what to do about them.

import { byId, el, icon, keyed, setProse, setText } from "../common/dom.js";
import { duration } from "../common/format.js";
import { logLevel } from "./words.js";

/** Show those that hold now; none hides the section. */
export function showAlerts(alerts) {
  byId("alerts").hidden = alerts.length === 0;
  const sorted = [...alerts].sort((one, other) => logLevel(other.level).severity - logLevel(one.level).severity);
  keyed(byId("alert-list"), sorted, {
    key: (alert) => `${alert.level} ${alert.about} ${alert.worker ?? ""}`,
    create: (alert) =>
      el(
        "li",
        { class: `panel alert ${logLevel(alert.level).kind}` },
        icon("warning"),
        el(
          "div",
          {},
          el("p", {}, el("strong", { text: alert.level }), " ", el("span", { class: "words" })),
          el("p", { class: "action soft" }),
        ),
        el("p", { class: "since faint small" }),
      ),
    update: (node, alert) => {
      setProse(node.querySelector(".words"), alert.words);
      setProse(node.querySelector(".action"), alert.action);
      setText(node.querySelector(".since"), `for ${duration(alert.since_seconds)}`);
    },
  });
}
