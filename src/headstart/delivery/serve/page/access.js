// Asking the server, with its token where it wants one; and the page's theme.

const KEPT = "headstart-token"; // for as long as this tab is open
const dialog = document.getElementById("access");
let asking = null;

function withToken(options) {
  const token = sessionStorage.getItem(KEPT);
  return token ? { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` } } : options;
}

/** Ask the person for the token; several questions at once show one dialog. */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const form = document.getElementById("access-form");
    const field = document.getElementById("token");
    if (sessionStorage.getItem(KEPT)) document.getElementById("access-why").textContent = "That was not the token.";
    field.value = "";
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEPT, field.value.trim());
      asking = null;
      form.onsubmit = null;
      dialog.close();
      resolve();
    };
    dialog.showModal();
  });
  return asking;
}

dialog.addEventListener("cancel", (event) => event.preventDefault()); // nothing works without it

/** `fetch` from this server; asks for the token until it is the right one. */
export async function call(path, options = {}) {
  for (;;) {
    const used = sessionStorage.getItem(KEPT);
    const answer = await fetch(path, withToken(options));
    if (answer.status !== 401) return answer;
    if (used === sessionStorage.getItem(KEPT)) await askForToken();
  }
}

const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
theme.setAttribute("aria-pressed", String(dark.matches));
theme.addEventListener("click", () => {
  const next = theme.getAttribute("aria-pressed") !== "true";
  theme.setAttribute("aria-pressed", String(next));
  document.documentElement.dataset.theme = next ? "dark" : "light";
});
