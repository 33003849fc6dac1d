// The page: pictures come in, the model inside answers them, and the answers are shown. Nobody else is asked.

import { card, make, percent, row } from "./drawing.js";
import { thumbnail, transferred } from "./pictures.js";
import { csv, save } from "./table.js";
import { camera } from "./camera.js";
import { about, answered, answeredPixels, start } from "./model.js";

const MANY = 12; // pictures from which on a table is the better view
const LETTERS = 110; // of class names that are read at a glance
const AHEAD = 2; // pictures given to the worker at once: one to compute, one to follow

const by = (id) => document.getElementById(id);
const state = { items: [], next: 1, running: 0, chosenView: false, started: false, remembers: false };

// What the page says of itself

function introduce() {
  document.title = `${about.name} · headstart`;
  by("subject").textContent = about.name;
  let letters = 0;
  const some = about.classes.filter((one, place) => (letters += one.length) <= LETTERS || place < 2);
  presentClasses(about.classes.length - some.length < 2 ? about.classes.length : some.length);
  by("about-sets").textContent = `A set holds the truth ${Math.round(100 * about.coverage)} times in 100, on pictures like those that the model learnt from.`;
  by("quality").textContent = quality();
  by("made").textContent = `Made by headstart ${about.version}.`;
  by("facts").append(
    fact("Model", make("bdi", {}, about.name)),
    fact(`Classes (${about.classes.length.toLocaleString("en")})`, ...about.classes.flatMap((one, place) => [place ? ", " : "", make("bdi", {}, one)])),
    fact("Accuracy", quality() || "Not known: the model was exported without its run."),
    fact("Made", `${about.made}, by headstart ${about.version}`),
    fact("Network", `${about.backbone}; licence of its weights: ${about.licence}`),
    fact("Runtime", `${about.runtime}, WebAssembly`),
    fact("Size of this file", `${about.megabytes.toLocaleString("en", { minimumFractionDigits: 1 })} MB`),
    fact("Privacy", "Nothing leaves this computer. The page is forbidden to connect to anything (its Content-Security-Policy), and keeps nothing when it is closed."),
  );
}

function fact(name, ...text) {
  return make("div", {}, make("dt", {}, name), make("dd", { class: name.startsWith("Classes") ? "classes" : null }, ...text));
}

function quality() {
  const known = about.quality;
  if (!known) return "";
  const interval = `95\u202f% interval: ${percent(known.accuracy.low)} to ${percent(known.accuracy.high)}`;
  return `Right on ${percent(known.accuracy.value)} of ${known.n.toLocaleString("en")} pictures that it had not seen (${interval}).`;
}

/** Say which classes there are: so many of them, and the others when they are asked for. */
function presentClasses(count) {
  const shown = about.classes.slice(0, count);
  const more = about.classes.length - count;
  const between = (place) => (place === 0 ? "" : place === shown.length - 1 && !more ? " and " : ", ");
  const names = shown.flatMap((one, place) => [between(place), make("bdi", {}, one)]);
  if (!more) return by("knows").replaceChildren("This model tells apart ", ...names, ".");
  const rest = make("button", { type: "button", class: "more" }, `${more} more`);
  rest.addEventListener("click", () => {
    presentClasses(about.classes.length);
    by("knows").focus();
  });
  by("knows").replaceChildren("This model tells apart ", ...names, " and ", rest, ".");
}

function trouble(title, detail, kind = "warn") {
  by("trouble").replaceChildren(make("p", { class: `chip ${kind}` }, make("strong", {}, title), make("span", {}, detail)));
}

// Pictures come in

function add(files) {
  if (!files.length) return;
  const added = files.map((file) => ({ id: state.next++, file, busy: state.started ? null : "The model is being unpacked …" }));
  state.items.push(...added);
  if (!state.chosenView && state.items.length > MANY) view("table");
  for (const item of added) {
    by("cards").append(timed(item));
    by("rows").append(row(item));
  }
  document.body.classList.add("begun");
  by("results").hidden = false;
  tell();
  pump();
}

by("choose").addEventListener("change", taken);
by("photograph").addEventListener("change", taken);
function taken(event) {
  add([...event.target.files]);
  event.target.value = ""; // so that the same picture can be chosen again
}

addEventListener("paste", async (event) => add(await transferred(event.clipboardData)));
addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add(await transferred(event.dataTransfer));
});
by("lens").addEventListener("click", camera(add));
by("lens").hidden = !navigator.mediaDevices?.getUserMedia;

// Pictures are answered

function pump() {
  while (state.started && state.running < AHEAD) {
    const item = state.items.find((one) => !one.begun);
    if (!item) return;
    item.begun = true;
    state.running += 1;
    settle(item).finally(() => {
      state.running -= 1;
      pump();
    });
  }
}

async function settle(item) {
  item.busy = null;
  const asked = answered(item.file);
  item.thumbnail = await thumbnail(item.file);
  item.noPreview = item.thumbnail === null;
  redraw(item);
  const said = await asked;
  if (!state.remembers) delete said.pixels;
  Object.assign(item, said);
  redraw(item);
  tell(item);
}

function timed(item) {
  const element = card(item, { redraw, look: null });
  if (item.answer) {
    const took = make("p", { class: "hint took" }, `Answered in ${Math.round(item.milliseconds).toLocaleString("en")} ms.`);
    element.querySelector(".says").append(took);
  }
  return element;
}

function redraw(item) {
  const former = by(`card-${item.id}`);
  if (!former) return; // cleared meanwhile
  const focused = former.contains(document.activeElement);
  former.replaceWith(timed(item));
  by(`row-${item.id}`).replaceWith(row(item));
  if (focused) by(`card-${item.id}`).querySelector("button")?.focus();
}

const isDone = (item) => Boolean(item.answer || item.error);

/** Say how far it is, and what the newest answer is. */
function tell(newest) {
  const all = state.items.length;
  const done = state.items.filter(isDone).length;
  const failed = state.items.filter((one) => one.error).length;
  const without = failed === 0 ? "" : all === 1 ? ", without an answer" : `, ${failed} without an answer`;
  by("count").textContent = `${done < all ? `${done} of ${all}` : all} ${all === 1 ? "picture" : "pictures"}${without}`;
  by("about-sets").hidden = failed === all;
  document.body.classList.toggle("single", all === 1);
  by("save").disabled = done === 0;
  if (newest && (all <= MANY || done === all)) {
    const said = newest.answer ? `${newest.answer.label}, ${percent(newest.answer.probability)}` : newest.error.title;
    by("status").textContent = all <= MANY ? `${newest.file.name}: ${said}` : `All ${all} pictures are done.`;
  }
  if (done === all) dispatchEvent(new Event("settled"));
}

function view(name) {
  by("cards").hidden = name !== "cards";
  by("table").hidden = name !== "table";
  by("as-cards").setAttribute("aria-pressed", String(name === "cards"));
  by("as-table").setAttribute("aria-pressed", String(name === "table"));
}

for (const name of ["cards", "table"]) {
  by(`as-${name}`).addEventListener("click", () => {
    state.chosenView = true;
    view(name);
  });
}
by("save").addEventListener("click", () => save(csv(state.items, about.classes), `${about.name}.csv`));
by("clear").addEventListener("click", clear);
function clear() {
  for (const item of state.items) if (item.thumbnail) URL.revokeObjectURL(item.thumbnail);
  state.items = [];
  by("cards").replaceChildren();
  by("rows").replaceChildren();
  by("results").hidden = true;
  document.body.classList.remove("begun", "single");
  by("choose").focus();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const showTheme = () => by("theme").setAttribute("aria-pressed", String(isDark()));
by("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

// The model is unpacked

introduce();
const ready = start().then(
  ({ truly }) => {
    state.started = true;
    if (!truly) trouble("This browser changes the pixels that a page reads.", "It does so against being recognised. Probabilities may differ a little from those of headstart.");
    pump();
    return true;
  },
  (error) => {
    trouble("The model cannot be started in this browser.", `A browser of 2023 or later is needed: Chrome, Edge, Firefox or Safari. (${error.message})`, "bad");
    for (const item of state.items) Object.assign(item, { busy: "The model cannot be started." });
    state.items.forEach(redraw);
    throw error;
  },
);
ready.catch(() => {});

/** An answer without names as keys: its probabilities are in the order of the classes. */
function plain({ answer, error, pixels, milliseconds }) {
  if (error) return { error };
  const probabilities = about.classes.map((one) => answer.probabilities[one]);
  return { ...answer, probabilities, milliseconds, pixels: pixels && btoa(Array.from(pixels, (one) => String.fromCharCode(one)).join("")) };
}

/** For programs that ask the page: what headstart's own proof uses. */
globalThis.headstart = Object.freeze({
  about,
  ready,
  clear,
  /** From now on keep the pixels that the network saw, as RGB bytes in base64, for `answers`. */
  remember: () => (state.remembers = true),
  /** What was said of every picture given, in their order, when all are done. */
  async answers() {
    if (!state.items.every(isDone)) await new Promise((resolve) => addEventListener("settled", resolve, { once: true }));
    return state.items.map((item) => ({ name: item.file.name, ...plain(item) }));
  },
  /** What is said of fitted pictures, each RGB bytes in base64. */
  async ofPixels(pictures) {
    const bytes = pictures.map((one) => Uint8Array.from(atob(one), (letter) => letter.charCodeAt(0)));
    return (await Promise.all(bytes.map(answeredPixels))).map(plain);
  },
});
