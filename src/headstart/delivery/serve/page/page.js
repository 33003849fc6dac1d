// The page: pictures come in, are asked about a few at a time, and their answers are shown.

import { call } from "./access.js";
import { card, make, percent, row } from "./drawing.js";
import { thumbnail, transferred } from "./pictures.js";
import { csv, save } from "./table.js";

const AT_ONCE = 4; // requests under way
const TRIES = 8; // while the server is busy
const MANY = 12; // pictures from which on a table is the better view
const LETTERS = 110; // of class names that are read at a glance

const by = (id) => document.getElementById(id);
const state = { info: null, model: null, items: [], next: 1, running: 0, chosenView: false };
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// What the server says of itself

async function begin() {
  for (;;) {
    try {
      const answer = await call("/info");
      const info = await answer.json();
      if (answer.ok && info.models.length) return introduce(info);
      show(by("trouble"), "The model is being loaded.", answer.ok ? "It takes a moment." : info.error);
    } catch {
      show(by("trouble"), "The server cannot be reached.", "Is it still running?");
    }
    await sleep(1);
  }
}

function introduce(info) {
  state.info = info;
  by("trouble").replaceChildren();
  by("models").replaceChildren(...info.models.map((one) => make("option", {}, one.name)));
  by("choice").hidden = info.models.length < 2;
  by("limits").textContent = `Up to ${megabytes(info.limits.file_bytes)} each. JPEG, PNG, WebP, GIF, TIFF, AVIF and others.`;
  by("made").textContent = `Made by headstart ${info.version}.`;
  present(info.models[0]);
  pump();
}

function present(model) {
  state.model = model;
  document.title = `${model.name} · headstart`;
  by("subject").textContent = by("choice").hidden ? model.name : "";
  let letters = 0;
  const some = model.classes.filter((one, index) => (letters += one.length) <= LETTERS || index < 2);
  presentClasses(model.classes, model.classes.length - some.length < 2 ? model.classes.length : some.length);
  by("about-sets").textContent = `A set holds the truth ${Math.round(100 * model.coverage)} times in 100, on pictures like those that the model learnt from.`;
  const accuracy = model.metrics?.accuracy;
  by("quality").textContent = accuracy
    ? `Right on ${percent(accuracy.value)} of ${model.metrics.n.toLocaleString("en")} pictures that it had not seen (95\u202f% interval: ${percent(accuracy.low)} to ${percent(accuracy.high)}).`
    : "";
}

/** Say which classes there are: so many of them, and the others when they are asked for. */
function presentClasses(classes, count) {
  const shown = classes.slice(0, count);
  const more = classes.length - count;
  const between = (index) => (index === 0 ? "" : index === shown.length - 1 && !more ? " and " : ", ");
  const names = shown.flatMap((one, index) => [between(index), make("bdi", {}, one)]);
  if (!more) return by("knows").replaceChildren("This model tells apart ", ...names, ".");
  const rest = make("button", { type: "button", class: "more" }, `${more} more`);
  rest.addEventListener("click", () => {
    presentClasses(classes, classes.length);
    by("knows").focus();
  });
  by("knows").replaceChildren("This model tells apart ", ...names, " and ", rest, ".");
}

const megabytes = (bytes) => `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;

function show(place, title, detail) {
  place.replaceChildren(make("p", { class: "chip warn" }, make("strong", {}, title), make("span", {}, detail)));
}

// Pictures come in

function add(files) {
  if (!files.length) return;
  const added = files.map((file) => ({ id: state.next++, file }));
  state.items.push(...added);
  if (!state.chosenView && state.items.length > MANY) view("table");
  for (const item of added) {
    by("cards").append(card(item, actions));
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

addEventListener("paste", async (event) => {
  if (!event.target.closest?.("input")) add(await transferred(event.clipboardData));
});
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

// Pictures are asked about

function pump() {
  while (state.info && state.running < AT_ONCE) {
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
  if (item.thumbnail === undefined) {
    item.thumbnail = await thumbnail(item.file);
    item.noPreview = item.thumbnail === null;
    redraw(item);
  }
  Object.assign(item, await question(item, false));
  item.busy = null;
  redraw(item);
  tell(item);
}

/** What the server says of the picture: `answer`, or `error` with whether it is worth another try. */
async function question(item, explain) {
  const most = state.info.limits.file_bytes;
  if (item.file.size > most) {
    return refusal("Too large.", `It has ${megabytes(item.file.size)}; at most ${megabytes(most)} are accepted. A smaller copy will do.`);
  }
  const form = new FormData();
  form.append("file", item.file, item.file.name);
  const asked = new URLSearchParams({ model: state.model.name, ...(explain ? { explain: "true" } : {}) });
  for (let tries = 0; tries < TRIES; tries += 1) {
    let answer, said;
    try {
      answer = await call(`/predict?${asked}`, { method: "POST", body: form });
      said = await answer.json();
    } catch {
      return refusal("The server cannot be reached.", "Is it still running?", true);
    }
    if (answer.ok) return { answer: said.predictions[0], error: null };
    if (answer.status !== 503) return refused(answer.status, said.error);
    const seconds = Number(answer.headers.get("Retry-After")) || 2;
    item.busy = `The server is busy; asking again in ${seconds} s …`;
    redraw(item);
    await sleep(seconds * (0.75 + Math.random() / 2)); // not all at the same moment
  }
  return refusal("The server is busy.", "It has not answered after several tries.", true);
}

const refusal = (title, detail, canRetry = false) => ({ answer: null, error: { title, detail }, canRetry });

function refused(status, why) {
  const sentence = why ? why[0].toUpperCase() + why.slice(1).replace(/\.?$/, ".") : "";
  if (status === 413) return refusal("Too large.", sentence);
  if (status === 422 || status === 415) return refusal("This picture cannot be read.", sentence);
  if (status === 408) return refusal("The picture did not arrive in time.", sentence, true);
  if (status === 404) return refusal("The model is gone.", sentence);
  return refusal("Something went wrong.", sentence, true);
}

// What a person may do with an answer

async function look(item) {
  if (item.looking) return;
  if (!item.overlay) {
    item.looking = true;
    redraw(item);
    const { answer } = await question(item, true);
    item.looking = false;
    item.overlay = answer?.overlay;
  }
  item.shown = Boolean(item.overlay) && !item.shown;
  redraw(item);
}

function again(item) {
  Object.assign(item, { error: null, begun: false, busy: null });
  redraw(item);
  pump();
}

const actions = {
  redraw,
  again,
  get look() {
    return state.model?.explains ? look : null;
  },
};

function redraw(item) {
  const former = by(`card-${item.id}`);
  if (!former) return; // cleared meanwhile
  const focused = former.contains(document.activeElement) ? document.activeElement.className : null;
  former.replaceWith(card(item, actions));
  by(`row-${item.id}`).replaceWith(row(item));
  if (focused) {
    const place = by(`card-${item.id}`);
    (place.querySelector(`button[class="${focused}"]`) ?? place.querySelector("button"))?.focus();
  }
}

/** Say how far it is, and what the newest answer is. */
function tell(newest) {
  const all = state.items.length;
  const done = state.items.filter((one) => one.answer || one.error).length;
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
by("save").addEventListener("click", () => save(csv(state.items, state.model.classes), `${state.model.name}.csv`));
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
by("models").addEventListener("change", () => {
  present(state.info.models[by("models").selectedIndex]);
  // Other models, other answers: every picture is asked about again.
  for (const item of state.items) {
    Object.assign(item, { answer: null, error: null, overlay: null, shown: false, begun: false });
    redraw(item);
  }
  pump();
});

begin();
