// Elements from values. Text goes in as text nodes only, so that nothing which comes over the wire becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * A new element. Of `props`: `class`, `text`, `dataset` (an object), `on` (listeners by event), and the rest as
 * attributes, where false, null and undefined leave one out and true is an empty one. Children that are null or false
 * are left out; strings become text.
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name === "on")
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else setAttribute(node, name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The element with this id; it must be there. */
export function byId(id) {
  const node = document.getElementById(id);
  if (node === null) throw new Error(`no #${id} on this page`);
  return node;
}

/** Change text only if it differs, so that selections, screen readers and layout are left in peace. */
export function setText(node, text) {
  const wanted = text ?? "";
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Show text whose `parts in backticks` are code, if it differs from what is shown. */
export function setProse(node, text) {
  const wanted = text ?? "";
  if (node.dataset.prose === wanted) return;
  node.dataset.prose = wanted;
  const parts = wanted.split("`");
  const isPaired = parts.length % 2 === 1;
  node.replaceChildren(
    ...(isPaired ? parts.map((part, place) => (place % 2 ? el("code", { text: part }) : part)) : [wanted]),
  );
}

/** Set, or with false, null or undefined remove, an attribute if that changes anything. */
export function setAttribute(node, name, value) {
  if (value === false || value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const wanted = value === true ? "" : String(value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

/**
 * Make `parent`'s children one for each item, in order, keeping those whose key stays: focus, selection and open
 * `details` survive. `create(item)` makes one, `update(node, item)` is called for every one.
 */
export function keyed(parent, items, { key, create, update }) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = before.get(name);
    if (node === undefined) {
      node = create(item);
      node.dataset.key = name;
    } else before.delete(name);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
    update(node, item);
  }
  for (const node of before.values()) node.remove();
}

/** An icon of vendor-free, hand-made paths: 16 by 16, drawn in the text's colour, not read aloud. */
export function icon(name) {
  const node = document.createElementNS(SVG, "svg");
  node.setAttribute("viewBox", "0 0 16 16");
  node.setAttribute("class", "icon");
  node.setAttribute("aria-hidden", "true");
  node.setAttribute("focusable", "false");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name] ?? ICONS.dot);
  node.append(path);
  return node;
}

/** Let a button copy what `text()` gives, and say so for a moment. */
export function bindCopy(button, text) {
  const words = button.textContent;
  let timer = 0;
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Not allowed";
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = words), 1500);
  });
}

/** Put text on the clipboard; false where the browser does not let us. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyThroughSelection(text); // the clipboard's interface is for secure origins only; http by name is none
  }
}

function copyThroughSelection(text) {
  const area = el("textarea", { class: "off-screen", readonly: true, "aria-hidden": "true", tabindex: -1 });
  area.value = text;
  const focused = document.activeElement;
  (focused?.closest("dialog") ?? document.body).append(area);
  area.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    // refused
  }
  area.remove();
  focused?.focus();
  return done;
}

const ICONS = {
  dot: "M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
  check: "M6.4 12.6 1.9 8.1l1.4-1.4 3.1 3.1 6.3-6.4 1.4 1.4z",
  cross: "M12.6 4.8 11.2 3.4 8 6.6 4.8 3.4 3.4 4.8 6.6 8l-3.2 3.2 1.4 1.4L8 9.4l3.2 3.2 1.4-1.4L9.4 8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  clock: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 2a5 5 0 1 1 0 10A5 5 0 0 1 8 3zM7 4.5h1.6v3.2l2.2 1.3-.8 1.4L7 8.6z",
  spin: "M8 1v2a5 5 0 1 1-4.9 4H1.1A7 7 0 1 0 8 1zM5.3 1.5 2 2.2l.8 3.3 1.6-.4-.2-.9 1.5-1z",
  drop: "M8 1.2 4.2 6.6a4.7 4.7 0 1 0 7.6 0z",
  warning: "M8 1 .6 14.2h14.8zm-.9 4.8h1.8l-.2 4.4H7.3zM8 11a1 1 0 1 1 0 2 1 1 0 0 1 0-2z",
  stop: "M3.5 3.5h9v9h-9z",
  info: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm-.9 3h1.8v1.8H7.1zm0 3h1.8v5H7.1z",
  image:
    "M1.5 2.5h13v11h-13zm1.6 1.6v5.8l2.7-2.6 2.6 2.5 1.9-1.7 2.6 2.4V4.1zM11 5.2a1.2 1.2 0 1 1 0 2.4 1.2 1.2 0 0 1 0-2.4z",
  send: "M1.5 13.8 15 8 1.5 2.2v4.6L10 8l-8.5 1.2z",
};
