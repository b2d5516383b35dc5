/** Chats out of this browser into a file, and in again. */

import { say } from "../common/ask.js";
import { el } from "../common/dom.js";
import { readExport, writeExport } from "./exchange.js";
import { blobOf } from "./picture.js";

const DOWNLOAD_MS = 60_000;

/** Hand a file with these conversations and their pictures to the person. */
export async function exportChats(conversations, { desk }) {
  const dataUrls = new Map();
  for (const conversation of conversations) {
    for (const [id, url] of await desk.dataUrls(conversation)) dataUrls.set(id, url);
  }
  const text = writeExport(conversations, { dataUrls, now: Date.now() });
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { href: address, download: `gemmad-chats-${new Date().toISOString().slice(0, 10)}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), DOWNLOAD_MS);
}

/** Take in what a file holds; resolves to the id of its first chat, null if there is none or the file is no good. */
export async function importChats(text, { desk, album }) {
  try {
    const { conversations, pictures } = readExport(text);
    for (const [id, url] of pictures) await album.keep(id, blobOf(url));
    for (const conversation of conversations) desk.set(conversation);
    say(conversations.length === 1 ? "One chat was imported." : `${conversations.length} chats were imported.`, {
      kind: "ok",
    });
    return conversations[0]?.id ?? null;
  } catch (error) {
    say(error.message, { kind: "bad" });
    return null;
  }
}
