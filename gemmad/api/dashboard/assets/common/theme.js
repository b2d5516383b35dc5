// Which colours: as the system has them, or as the person chose, remembered in this browser.

const KEY = "gemmad.theme";
const CHOICES = ["auto", "light", "dark"];
const listeners = new Set();

/** The choice: auto, light or dark. */
export function theme() {
  return document.documentElement.dataset.theme ?? "auto";
}

/** Take and remember a choice. */
export function setTheme(choice) {
  const root = document.documentElement;
  if (choice === "auto") delete root.dataset.theme;
  else root.dataset.theme = choice;
  try {
    if (choice === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, choice);
  } catch {
    // not remembered where storage is forbidden
  }
  tell();
}

/** Call `listener` whenever the colours in force change, by choice or by the system. */
export function onThemeChange(listener) {
  listeners.add(listener);
}

/** Make a group of buttons with `data-theme-choice` the switch: a pressed one is in force. */
export function bindThemeSwitch(group) {
  const buttons = [...group.querySelectorAll("button[data-theme-choice]")];
  const show = () => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme()));
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const choice = button.dataset.themeChoice;
      setTheme(CHOICES.includes(choice) ? choice : "auto");
    });
  }
  onThemeChange(show);
  show();
}

/** What a custom property such as `--accent` comes to now, for what is drawn on a canvas. */
export function colour(name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function tell() {
  for (const listener of listeners) listener();
}

if (typeof matchMedia === "function") {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
}
