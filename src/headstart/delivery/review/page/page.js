// The review desk: queues of pictures, one decision after another, by keyboard, mouse or finger.

import { acts, page, picked, present } from "./acts.js";
import { drawChange } from "./change.js";
import { keysOf, openClasses, redrawClasses, setUpClasses } from "./classes.js";
import { CHUNK, ask, chunksOf, desk, forget, itemAt, load, readState, readStateSoon, refresh, totalOf } from "./desk.js";
import { announce, button, by, counted, isolated, keepingFocus, make, percent, shortened, tell } from "./drawing.js";
import { drawGrid } from "./grid.js";
import { setUpKeys } from "./keys.js";
import { openLog } from "./log.js";
import { drawSide } from "./side.js";
import { drawOne, drawStrip } from "./single.js";
import { QUEUES, fromAddress, place, toAddress, view } from "./view.js";

const LOOK_AGAIN = 10_000; // milliseconds between looks at what other tabs have done

let training = false;
let keys = new Map();
const isUsable = () => desk.state && view.mode !== "change";

// Drawing

function draw() {
  if (!desk.state) return drawTrouble();
  keys = keysOf(desk.state.classes.map((one) => one.name));
  toAddress();
  keepingFocus(() => {
    drawHeader();
    drawQueues();
    drawTrouble();
    drawStage();
    redrawClasses();
  });
}

function drawHeader() {
  const { run, first, last, revision, trained_revision: trained } = desk.state;
  document.title = `${run} · headstart review`;
  by("run").textContent = run;
  const from = first && last && first.accuracy.value !== last.accuracy.value ? `${percent(first.accuracy.value)} → ` : "";
  by("accuracy").replaceChildren(...(last ? [make("span", { class: "word" }, "Accuracy "), `${from}${percent(last.accuracy.value)}`] : []));
  if (last) by("accuracy").title = `95 % interval ${percent(last.accuracy.low)} to ${percent(last.accuracy.high)}, on ${last.n} held-out pictures`;
  const isBusy = training || desk.state.training;
  by("train").classList.toggle("quiet", revision <= trained && !desk.waiting.length && !isBusy);
  by("train").setAttribute("aria-busy", String(isBusy));
  by("train-text").textContent = isBusy ? "Training …" : "Train again";
}

function drawQueues() {
  by("queues").replaceChildren(...Object.entries(QUEUES).map(([queue, { title }]) => {
    const count = desk.state.queues[queue];
    const left = count === null ? "…" : count.waiting.toLocaleString("en");
    const done = count && count.total ? 1 - count.waiting / count.total : 0;
    const bar = make("span", { class: "done", "aria-hidden": "true" }, make("i"));
    bar.firstChild.style.width = `${100 * done}%`;
    const said = count === null ? "being made" : `${left} of ${counted(count.total, "picture")} left`;
    const isHere = view.mode !== "change" && queue === view.queue;
    return make("li", {}, button({ class: "queue", id: `queue-${queue}`, "aria-current": isHere ? "page" : null }, () => go(queue),
      make("span", {}, title), make("span", { class: "figure", "aria-hidden": "true" }, left), make("span", { class: "hidden" }, `, ${said}`), bar));
  }));
}

function drawTrouble() {
  const parts = [];
  if (!desk.online) {
    const waiting = desk.waiting.filter((op) => !op.isRefresh).length;
    const kept = waiting ? `${counted(waiting, "decision")} not kept yet: sent once it is back.` : "Is it still running?";
    parts.push(make("div", { class: "chip bad" }, make("strong", {}, "The desk cannot be reached."), make("span", {}, kept)));
  }
  by("trouble").replaceChildren(...parts);
}

function drawStage() {
  const isChange = view.mode === "change";
  const total = totalOf(view.queue, view.only);
  const { title, about, none } = QUEUES[view.queue];
  by("queue-title").textContent = isChange ? "What changed" : title;
  document.body.dataset.view = view.mode;
  const count = desk.state.queues[view.queue];
  const isDone = count && count.total > 0 && count.waiting === 0;
  by("place").textContent = isChange || !total ? "" : `${(place() + 1).toLocaleString("en")} of ${total.toLocaleString("en")}`;
  by("about").textContent = isChange ? "" : isDone ? "✓ Everything here is decided. Train again (T) to see what it changed." : about;
  by("about").hidden = isChange || total === 0;
  by("about").classList.toggle("usual", !isDone);
  document.querySelector(".views").hidden = isChange || total === 0;
  drawEmpty(!isChange && total === 0, none);
  by("open-change").setAttribute("aria-current", isChange ? "page" : "false");
  by("as-one").setAttribute("aria-pressed", String(view.mode === "one"));
  by("as-grid").setAttribute("aria-pressed", String(view.mode === "grid"));
  drawFilter();
  const item = isChange ? undefined : present();
  by("sight").hidden = view.mode !== "one" || total === 0;
  by("sheet").hidden = view.mode !== "grid" || total === 0;
  by("change").hidden = !isChange;
  by("side").hidden = isChange || !item;
  by("strip").hidden = view.mode !== "one";
  if (isChange) return drawChange(goOn);
  if (view.mode === "one") {
    drawOne(item, acts);
    drawStrip(move);
  } else {
    drawGrid(acts);
  }
  drawSide(item, picked(), keys, acts);
  if (desk.online && (total === null || (!item && total > 0))) show();
}

/** Where a queue has nothing: why, and where there is something. */
function drawEmpty(isEmpty, none) {
  by("empty").hidden = !isEmpty;
  if (!isEmpty) return;
  const [other] = Object.keys(QUEUES).filter((queue) => queue !== view.queue && desk.state.queues[queue]?.waiting);
  const sign = view.queue === "new" || view.only ? null : make("span", { class: "sign", "aria-hidden": "true" }, "✓");
  by("empty").replaceChildren(...[sign, make("p", { class: "lead" }, none), other && button({ class: "button quiet", id: "elsewhere" }, () => go(other), `On to: ${QUEUES[other].title}`)].filter(Boolean));
}

function drawFilter() {
  by("filter").hidden = view.queue !== "all" || view.mode === "change";
  const names = ["", ...desk.state.classes.map((one) => one.name)];
  if (!names.includes(view.only)) view.only = ""; // that class is no more
  if (by("only").dataset.names === names.join("\n")) return;
  by("only").dataset.names = names.join("\n");
  by("only").replaceChildren(...names.map((one) => make("option", { value: one }, one === "" ? "All classes" : shortened(one))));
  by("only").value = view.only;
}

// Moving

/** Load what the present place needs, and draw it. */
async function show() {
  const { queue, only } = view;
  try {
    await load(queue, only, place());
    const total = totalOf(queue, only);
    if (place() >= total && total > 0) {
      view.places.set(queue, total - 1);
      await load(queue, only, total - 1);
    }
  } catch (error) {
    if (error.status) return tell(error.message, "bad");
    desk.online = false;
    setTimeout(show, 2000);
  }
  if (queue === view.queue && only === view.only) draw();
}

/** To a queue: where it was left, or at the first picture that waits. */
async function go(queue) {
  Object.assign(view, { queue, only: "", mode: view.mode === "change" ? "one" : view.mode, zoomed: false, marked: 1 });
  view.picked.clear();
  const isNew = !view.places.has(queue);
  await show();
  if (isNew && place() === 0 && present()?.decision) await next(-1);
  announce(`${QUEUES[queue].title}: ${counted(totalOf(queue, "") ?? 0, "picture")}.`);
}

function move(to) {
  const total = totalOf(view.queue, view.only) ?? Infinity; // not known yet: `show` corrects the place
  if (!total) return;
  view.places.set(view.queue, Math.max(0, Math.min(total - 1, to)));
  Object.assign(view, { zoomed: false, marked: 1 });
  if (present()) draw();
  else show();
  by(`cell-${place()}`)?.scrollIntoView({ block: "nearest" });
  say();
}

/** To the next picture that waits, from the one after `from` on, round the end; stays where none does. */
async function next(from) {
  const { queue, only } = view;
  const total = totalOf(queue, only) ?? 0;
  for (let step = 1; step <= total; step++) {
    const number = (from + step + total) % total;
    if (!itemAt(queue, only, number)) await load(queue, only, number).catch(() => {});
    const item = itemAt(queue, only, number);
    if (!item) break; // the desk cannot be reached
    if (queue !== view.queue || place() !== Math.max(0, from)) return; // somebody has moved meanwhile
    if (item && !item.decision && !item.excluded) return move(number);
  }
  draw();
}

function say() {
  const item = present();
  if (!item) return;
  const suggested = item.suggested && item.suggested !== item.label ? `, suggested ${isolated(item.suggested)}` : "";
  announce(`Picture ${place() + 1} of ${totalOf(view.queue, view.only)}: ${item.label ? isolated(item.label) : "no label"}${suggested}.`);
}

function goOn() {
  view.mode = "one";
  show();
  by("stage").focus({ preventScroll: true });
}

// Training

async function train() {
  if (training) return;
  training = true;
  draw();
  announce("Training again.");
  while (desk.waiting.length) await new Promise((resolve) => setTimeout(resolve, 50)); // until all is kept
  try {
    const change = await ask("/api/train", {});
    view.mode = "change";
    view.places.clear();
    forget();
    tell(`Trained in ${change.seconds.toFixed(1)} seconds. Accuracy ${percent(change.before.value)} before, ${percent(change.after.value)} now.`, "good");
  } catch (error) {
    tell(error.message, "bad");
  }
  training = false;
  await readState().catch(() => {});
  readStateSoon();
  draw();
  if (view.mode === "change") by("stage").focus();
}

// What the server says

desk.onchange = draw;
desk.onrefused = (error, op) => {
  const what = op.what === "undo" || op.what === "redo" ? "Nothing was taken back" : "Not kept";
  tell(`${what}: ${error.message}${error.status === 409 ? " It is shown as it is now." : ""}`, "bad");
  const found = placeOf(op.body?.ids ?? []);
  if (found !== null) view.places.set(view.queue, found); // read again by now
};
desk.ondone = (op, said) => {
  if (op.what !== "undo" && op.what !== "redo") return;
  const row = said.decisions[0];
  if (!row) return tell(`There is nothing to ${op.what}.`);
  const label = row.pictures.length === 1 ? row.pictures[0].path || row.pictures[0].id.slice(0, 12) : counted(row.pictures.length, "picture");
  tell(`${op.what === "undo" ? "Undone" : "Done again"}: ${isolated(label)}.`);
  const found = placeOf(row.pictures.map((one) => one.id));
  if (found !== null) move(found);
};

/** Where the first of these pictures (or pairs) stands in the present queue; null where none is loaded. */
function placeOf(ids) {
  const about = new Set(ids);
  for (const [number, items] of chunksOf(view.queue, view.only)) {
    const found = items.findIndex((one) => about.has(one.id) || about.has(one.twin?.id) || about.has(one.twin?.pair));
    if (found >= 0) return number * CHUNK + found;
  }
  return null;
}

// The page itself

function setUpTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const kept = localStorage.getItem("headstart-theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  by("theme").setAttribute("aria-pressed", String(isDark()));
  by("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("headstart-theme", root.dataset.theme);
    by("theme").setAttribute("aria-pressed", String(isDark()));
  });
}

async function save(event) {
  event.preventDefault();
  const answer = await fetch("/api/export").catch(() => null);
  if (!answer?.ok) return tell(answer ? (await answer.json()).error : "The desk cannot be reached.", "bad");
  const link = make("a", { download: "reviewed.csv" });
  link.href = URL.createObjectURL(await answer.blob());
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function setUp() {
  Object.assign(page, { draw, show, move, next, train, goOn });
  setUpTheme();
  setUpClasses();
  setUpKeys({ acts, view, keys: () => keys, isUsable, place, total: () => totalOf(view.queue, view.only) ?? 0 });
  by("train").addEventListener("click", train);
  by("as-one").addEventListener("click", () => acts.mode("one"));
  by("as-grid").addEventListener("click", () => acts.mode("grid"));
  by("only").addEventListener("change", () => {
    view.only = by("only").value;
    view.places.set("all", 0);
    show();
  });
  by("open-change").addEventListener("click", () => { view.mode = "change"; draw(); by("stage").focus(); });
  by("open-classes").addEventListener("click", openClasses);
  by("open-log").addEventListener("click", openLog);
  by("redo-chore").addEventListener("click", acts.redo);
  by("open-help").addEventListener("click", () => by("help").showModal());
  by("export").addEventListener("click", save);
  by("skip").addEventListener("click", (event) => { event.preventDefault(); by("stage").focus(); });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  // A button that was pressed by mouse gives the keyboard back: the next space is for the picture.
  document.addEventListener("click", (event) => {
    const isPlain = event.detail > 0 && event.target.closest(".side button, .sight button, .strip button, .masthead button, .queues button");
    if (isPlain && !document.querySelector("dialog[open]")) by("stage").focus({ preventScroll: true });
  });
  addEventListener("hashchange", () => { fromAddress(); show(); });
  addEventListener("focus", () => readStateSoon(0));
  addEventListener("beforeunload", (event) => desk.waiting.some((op) => op.path) && event.preventDefault());
  setInterval(() => document.hidden || readState().catch(() => { desk.online = false; draw(); }), LOOK_AGAIN);
}

async function begin() {
  const isFresh = !new URLSearchParams(location.hash.slice(1)).has("queue");
  fromAddress();
  setUp();
  refresh();
  while (!desk.state) await new Promise((resolve) => setTimeout(resolve, 30));
  if (isFresh && view.mode === "one") await go("labels");
  else await show();
}

begin();
