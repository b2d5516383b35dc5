// Loaded before the first paint, not as a module, so that a page in the chosen theme never flashes in the other one.
(function () {
  try {
    const chosen = localStorage.getItem("gemmad.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // storage is forbidden here: the system's theme it is
  }
})();
