/** From a conversation to the body of `POST /v1/chat/completions`. */

import { readParameters } from "./parameters.js";

/**
 * The body. `dataUrls`: a Map from a picture's id to its data: URL; a picture without one is left out.
 * `goOn`: the reply goes on with the last message, the assistant's.
 */
export function requestBody(conversation, { dataUrls = new Map(), goOn = false } = {}) {
  const { model, system, parameters } = conversation.settings;
  const messages = conversation.turns.filter(isSaid).map((turn) => message(turn, dataUrls));
  if (system.trim() !== "") messages.unshift({ role: "system", content: system });
  return {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...readParameters(parameters).fields,
    ...(goOn ? { continue_final_message: true, add_generation_prompt: false } : {}),
  };
}

/** A reply that failed before its first word is no turn of the conversation. */
function isSaid(turn) {
  return turn.role === "user" || turn.text !== "";
}

function message(turn, dataUrls) {
  const urls = turn.pictures.map((picture) => dataUrls.get(picture.id)).filter((url) => url !== undefined);
  if (urls.length === 0) return { role: turn.role, content: turn.text };
  const parts = urls.map((url) => ({ type: "image_url", image_url: { url } }));
  if (turn.text !== "") parts.push({ type: "text", text: turn.text });
  return { role: turn.role, content: parts };
}
