/** Conversations as a file, and back. What comes in may be anybody's, so it is read field by field. */

import { newId, noSettings } from "./conversation.js";
import { PARAMETERS } from "./parameters.js";

const FORMAT = "gemmad-chat";
const VERSION = 1;
const DATA_URL = /^data:image\/(?:png|jpeg|webp|gif|bmp);base64,[A-Za-z0-9+/]*={0,2}$/;

/** The text of a file. `dataUrls`: a Map of the pictures that are still kept. */
export function writeExport(conversations, { dataUrls, now }) {
  const file = { format: FORMAT, version: VERSION, exported: new Date(now).toISOString(), conversations };
  return JSON.stringify({ ...file, pictures: Object.fromEntries(dataUrls) }, null, 1);
}

/** `{conversations, pictures: Map}` of a file's text; each gets a new id. Throws Error with words for a person. */
export function readExport(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations))
    throw new Error("This file holds no chats of gemmad.");
  if (file.version !== VERSION) throw new Error("This file was written by another version of gemmad.");
  const conversations = file.conversations.map(readConversation);
  if (conversations.includes(null)) throw new Error("A chat in this file is broken.");
  const pictures = new Map(
    Object.entries(file.pictures ?? {}).filter(([, url]) => typeof url === "string" && DATA_URL.test(url)),
  );
  return { conversations: conversations.map((conversation) => ({ ...conversation, id: newId() })), pictures };
}

/** A conversation out of decoded JSON with known fields only; null if it is none. */
export function readConversation(value) {
  if (!isObject(value) || !isId(value.id) || !Array.isArray(value.turns)) return null;
  const turns = value.turns.map(readTurn);
  if (turns.includes(null)) return null;
  return {
    id: value.id,
    title: words(value.title).slice(0, 200) || "Chat",
    named: value.named === true,
    created: number(value.created) ?? 0,
    updated: number(value.updated) ?? 0,
    settings: readSettings(value.settings),
    turns,
  };
}

function readSettings(value) {
  if (!isObject(value)) return noSettings();
  const typed = isObject(value.parameters) ? value.parameters : {};
  const parameters = Object.fromEntries(
    PARAMETERS.filter(({ name }) => typeof typed[name] === "string").map(({ name }) => [name, typed[name]]),
  );
  return { model: words(value.model), system: words(value.system), parameters };
}

function readTurn(value) {
  if (!isObject(value) || !isId(value.id) || !["user", "assistant"].includes(value.role)) return null;
  const pictures = (Array.isArray(value.pictures) ? value.pictures : []).map(readPicture);
  if (pictures.includes(null)) return null;
  const reply = value.role === "assistant" ? readReply(value.reply) : null;
  return { id: value.id, role: value.role, text: words(value.text), pictures, reply };
}

function readPicture(value) {
  if (!isObject(value) || !isId(value.id)) return null;
  const { width, height, bytes } = value;
  return {
    id: value.id,
    name: words(value.name),
    type: words(value.type),
    width: number(width) ?? 0,
    height: number(height) ?? 0,
    bytes: number(bytes) ?? 0,
  };
}

/** A reply that was never finished, since its page was closed, counts as stopped. */
function readReply(value) {
  if (!isObject(value)) value = { ended: "stopped" };
  const { prompt, completion } = isObject(value.usage) ? value.usage : {};
  const known = number(prompt) !== null && number(completion) !== null;
  return {
    ended: words(value.ended) || "stopped",
    fault: isObject(value.fault) ? readFault(value.fault) : null,
    usage: known ? { prompt, completion } : null,
    firstSeconds: number(value.firstSeconds),
    tokensPerSecond: number(value.tokensPerSecond),
    model: words(value.model) || null,
  };
}

function readFault({ kind, message, status, code, requestId }) {
  return {
    kind: words(kind),
    message: words(message),
    status: number(status),
    code: words(code) || null,
    requestId: words(requestId) || null,
  };
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isId = (value) => typeof value === "string" && /^[\w-]{1,64}$/.test(value);
const words = (value) => (typeof value === "string" ? value : "");
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
