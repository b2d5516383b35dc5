/** The request that a conversation and a draft make, for showing it. */

import { apiKey } from "../common/keys.js";
import { userTurn, withSettings, withTurn } from "./conversation.js";
import { showCode } from "./dialogs.js";
import { requestBody } from "./request.js";
import { baseUrl, chatUrl } from "./server.js";

/** What would be sent now, or if nothing was written, what was sent last. */
export async function showNextRequest(conversation, { draft, model, desk }) {
  const written = draft.text.trim() !== "" || draft.pictures.length > 0;
  const asked = written
    ? withTurn(conversation, userTurn(draft.text.trim(), draft.pictures), 0)
    : untilLastQuestion(conversation);
  const body = requestBody(withSettings(asked, { model }, 0), { dataUrls: await desk.dataUrls(asked) });
  await showCode(body, {
    url: chatUrl(),
    base: baseUrl(),
    withKey: apiKey() !== null,
    note: written || asked.turns.length === 0 ? "As it would be sent now." : "As it was sent last.",
  });
}

function untilLastQuestion(conversation) {
  const index = conversation.turns.findLastIndex((turn) => turn.role === "user");
  return { ...conversation, turns: conversation.turns.slice(0, index + 1) };
}
