/** Where text that still grows can be cut, so that what stands before is drawn once and never again. */

import { Lexer } from "../vendor/marked.js";

/**
 * How many characters from the start are blocks of markdown that nothing appended can change: all but the last block
 * of the complete lines. Line ends must be `\n`.
 */
export function settledLength(text) {
  const complete = text.slice(0, text.lastIndexOf("\n") + 1);
  if (complete === "") return 0;
  let blocks;
  try {
    blocks = new Lexer({ gfm: true, breaks: true }).blockTokens(complete, []);
  } catch {
    return 0; // nested deeper than the parser goes
  }
  const last = blocks.findLastIndex((block) => block.type !== "space");
  const length = blocks.slice(0, Math.max(last, 0)).reduce((sum, block) => sum + block.raw.length, 0);
  return blocks.reduce((sum, block) => sum + block.raw.length, 0) === complete.length ? length : 0;
}
