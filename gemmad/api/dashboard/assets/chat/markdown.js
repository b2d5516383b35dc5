/**
 * What a model wrote, as elements. It is hostile until shown otherwise: HTML in it is text, what is left goes through
 * DOMPurify with a short list of tags, and nothing it names is loaded.
 */

import DOMPurify from "../vendor/dompurify.js";
import { Marked } from "../vendor/marked.js";

const TAGS = [
  "a",
  "blockquote",
  "br",
  "code",
  "del",
  "em",
  "h1",
  "h2",
  "h3",
  "h4",
  "h5",
  "h6",
  "hr",
  "img",
  "li",
  "ol",
  "p",
  "pre",
  "strong",
  "sub",
  "sup",
  "table",
  "tbody",
  "td",
  "th",
  "thead",
  "tr",
  "ul",
];
const ATTRIBUTES = ["href", "title", "src", "alt", "class", "align", "start"];
const LINK = /^(?:https?:|mailto:)/i;
const PICTURE = /^data:image\/(?:png|jpeg|webp|gif);base64,[a-z0-9+/=]+$/i;
const LANGUAGE = /^language-[\w+#.-]{1,30}$/;
const SHORT_TAGS = /^<(?:br|\/?su[bp])\s*\/?>$/i;

const purify = DOMPurify(globalThis.window);
purify.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "src" && !PICTURE.test(data.attrValue)) data.keepAttr = false;
  if (data.attrName === "href" && !LINK.test(data.attrValue)) data.keepAttr = false;
  if (data.attrName === "class" && !(node.tagName === "CODE" && LANGUAGE.test(data.attrValue))) data.keepAttr = false;
});
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "IMG" && !node.hasAttribute("src")) node.replaceWith(node.getAttribute("alt") || "[picture]");
  if (node.tagName === "A" && node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html({ text, block }) {
      if (SHORT_TAGS.test(text.trim())) return text;
      return block ? `<p>${escaped(text.trim()).replaceAll("\n", "<br>")}</p>` : escaped(text);
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    image({ href, title, text }) {
      if (PICTURE.test(href)) return `<img src="${escaped(href)}" alt="${escaped(text)}">`;
      const words = text || title || "picture";
      return LINK.test(href)
        ? `<a href="${escaped(href)}">${escaped(`${words} (a picture elsewhere)`)}</a>`
        : escaped(words);
    },
  },
});

/** A fragment of what `source` says. */
export function rendered(source) {
  try {
    return sanitised(marked.parse(source));
  } catch {
    const text = document.createElement("p"); // nested deeper than the parser goes
    text.className = "as-it-is";
    text.textContent = source;
    const fragment = document.createDocumentFragment();
    fragment.append(text);
    return fragment;
  }
}

/** A fragment of what is harmless in `html`. */
export function sanitised(html) {
  return purify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}

function escaped(text) {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.codePointAt(0)};`);
}
