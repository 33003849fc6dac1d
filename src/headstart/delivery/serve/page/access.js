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

const THEME = "headstart-theme"; // as the report and the desk keep it
const theme = document.getElementById("theme");
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
const kept = localStorage.getItem(THEME);
if (kept === "dark" || kept === "light") root.dataset.theme = kept;
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem(THEME, root.dataset.theme);
  showTheme();
});
system.addEventListener("change", showTheme);
showTheme();
