/**
 * A conversation as a value: each function returns a new one and leaves the old one as it is.
 *
 * Conversation: {id, title, named, created, updated, settings, turns: [Turn]}
 * Settings: {model, system, parameters: {name: text as typed}}
 * Turn: {id, role: "user" | "assistant", text, pictures: [Picture], reply: Reply | null}
 * Picture: {id, name, type, width, height, bytes}; its bytes lie in the picture store under its id.
 * Reply: {ended: "stop" | "length" | … | "stopped" | "fault", fault, usage, firstSeconds, tokensPerSecond, model}
 */

const TITLE_CHARACTERS = 48;
const NEW_TITLE = "New chat";

/** An id that no other page makes. `crypto.randomUUID` is missing on plain HTTP to another machine. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An empty one; `settings` are taken over, its system prompt too. */
export function newConversation(settings, { now, id = newId() }) {
  return { id, title: NEW_TITLE, named: false, created: now, updated: now, settings, turns: [] };
}

export const noSettings = () => ({ model: "", system: "", parameters: {} });

export const userTurn = (text, pictures = []) => ({ id: newId(), role: "user", text, pictures, reply: null });

export const assistantTurn = () => ({ id: newId(), role: "assistant", text: "", pictures: [], reply: null });

/** With a turn at its end; the first words of a person become the title of what has none. */
export function withTurn(conversation, turn, now) {
  const turns = [...conversation.turns, turn];
  return { ...conversation, turns, title: conversation.named ? conversation.title : titleOf(turns), updated: now };
}

/** With some fields of one turn changed. */
export function withChangedTurn(conversation, id, changes, now) {
  const turns = conversation.turns.map((turn) => (turn.id === id ? { ...turn, ...changes } : turn));
  return { ...conversation, turns, title: conversation.named ? conversation.title : titleOf(turns), updated: now };
}

/** Without one turn; those after it stay. */
export function withoutTurn(conversation, id, now) {
  const turns = conversation.turns.filter((turn) => turn.id !== id);
  return { ...conversation, turns, updated: now };
}

/** Only what stands before a turn. */
export function before(conversation, id, now) {
  const index = conversation.turns.findIndex((turn) => turn.id === id);
  return index < 0 ? conversation : { ...conversation, turns: conversation.turns.slice(0, index), updated: now };
}

/** Only what stands up to a turn, it included. */
export function upTo(conversation, id, now) {
  const index = conversation.turns.findIndex((turn) => turn.id === id);
  return index < 0 ? conversation : { ...conversation, turns: conversation.turns.slice(0, index + 1), updated: now };
}

/** With a title that a person gave; an empty one goes back to the first words. */
export function renamed(conversation, title, now) {
  const words = shorten(title);
  return { ...conversation, title: words || titleOf(conversation.turns), named: words !== "", updated: now };
}

export function withSettings(conversation, changes, now) {
  return { ...conversation, settings: { ...conversation.settings, ...changes }, updated: now };
}

/** How many turns stand behind this one. */
export function countAfter(conversation, id) {
  const index = conversation.turns.findIndex((turn) => turn.id === id);
  return index < 0 ? 0 : conversation.turns.length - index - 1;
}

/** The ids of all pictures in it. */
export function pictureIds(conversation) {
  return conversation.turns.flatMap((turn) => turn.pictures.map((picture) => picture.id));
}

/** Whether a reply is there but could go on: it was cut, or ran into its limit of tokens. */
export function mayContinue(turn) {
  return turn.role === "assistant" && turn.text !== "" && turn.reply !== null && turn.reply.ended !== "stop";
}

/** The first words that a person wrote. */
export function titleOf(turns) {
  const first = turns.find((turn) => turn.role === "user");
  if (first === undefined) return NEW_TITLE;
  return shorten(first.text) || (first.pictures.length > 0 ? first.pictures[0].name || "Picture" : NEW_TITLE);
}

function shorten(text) {
  const line = text.trim().replace(/\s+/g, " ");
  const characters = Array.from(line);
  return characters.length <= TITLE_CHARACTERS
    ? line
    : characters
        .slice(0, TITLE_CHARACTERS - 1)
        .join("")
        .trimEnd() + "…";
}
