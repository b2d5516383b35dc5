// What this browser shows to the daemon: for the dashboard a session token or an admin key, for the chat an API key.
//
// The dashboard's is kept until the tab closes. The API key too, unless the person wants it remembered.

const DASHBOARD = "gemmad.dashboard.key";
const API = "gemmad.api.key";

/** Move a token from `#token=…` out of the address, where history and a shared screen would keep it. */
export function takeToken() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const token = fields.get("token");
  if (token === null) return;
  fields.delete("token");
  const rest = fields.toString();
  history.replaceState(history.state, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  if (token) setDashboardKey(token);
}

/** The session token or admin key; null if there is none. */
export function dashboardKey() {
  return read(sessionStorage_(), DASHBOARD);
}

/** Keep it until the tab closes. */
export function setDashboardKey(key) {
  write(sessionStorage_(), DASHBOARD, key);
}

/** Keep it no longer. */
export function forgetDashboardKey() {
  write(sessionStorage_(), DASHBOARD, null);
}

/** The API key; null if there is none. */
export function apiKey() {
  return read(sessionStorage_(), API) ?? read(localStorage_(), API);
}

/** Keep an API key until the tab closes, or with `remember` until it is forgotten. */
export function setApiKey(key, { remember = false } = {}) {
  forgetApiKey();
  write(remember ? localStorage_() : sessionStorage_(), API, key);
}

/** Keep it no longer, anywhere. */
export function forgetApiKey() {
  write(sessionStorage_(), API, null);
  write(localStorage_(), API, null);
}

/** Whether `key` can be sent at all: a header has no room for line ends or letters outside of Latin-1. */
export function isSendable(key) {
  return /^[\x21-\x7e]+$/.test(key);
}

const fallback = new Map(); // where storage is forbidden, keys last as long as the page

function read(storage, name) {
  return storage === null ? (fallback.get(name) ?? null) : storage.getItem(name);
}

function write(storage, name, value) {
  if (storage === null) {
    if (value === null) fallback.delete(name);
    else fallback.set(name, value);
  } else if (value === null) storage.removeItem(name);
  else storage.setItem(name, value);
}

function sessionStorage_() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null;
  }
}

function localStorage_() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}
