// The classes: which key stands for each, and the dialog that adds, renames and merges them.

import { changeClasses, desk } from "./desk.js";
import { button, by, counted, isolated, make, name, shortened, tell } from "./drawing.js";

const TAKEN = "xurtszg"; // keys that do something else

/** The keys of each class, as a map from its name to a list: a digit by its place or name, and a letter of its name. */
export function keysOf(names) {
  const keys = new Map(names.map((one) => [one, []]));
  const used = new Set(TAKEN);
  const give = (one, key) => {
    used.add(key);
    keys.get(one).push(key);
  };
  const digits = names.filter((one) => /^\d$/.test(one));
  for (const one of digits) give(one, one);
  if (!digits.length) names.slice(0, 10).forEach((one, place) => give(one, String((place + 1) % 10)));
  const letters = names.map((one) => [one, [...one.toLowerCase()].filter((letter) => /^[a-z]$/.test(letter))]);
  const shared = (letter) => letters.filter(([, own]) => own[0] === letter).length > 1;
  for (const [one, own] of letters) if (own.length && !used.has(own[0]) && !shared(own[0])) give(one, own[0]);
  for (const [one, own] of letters) {
    const free = keys.get(one).some((key) => /[a-z]/.test(key)) ? null : own.find((letter) => !used.has(letter) && !shared(letter));
    if (free) give(one, free);
  }
  return keys;
}

let chosen = null; // { action, name }: the change that the form is about

export function openClasses() {
  chosen = null;
  by("class-error").hidden = true;
  draw();
  by("classes").showModal();
}

function draw() {
  const classes = desk.state.classes;
  by("class-rows").replaceChildren(...classes.map(({ name: one, pictures }, place) => {
    const wish = (action, text) =>
      button({ class: "button quiet", id: `${action}-${place}`, disabled: action === "merge" && classes.length < 2 }, () => choose(action, one),
        text, make("span", { class: "hidden" }, ` ${one}`));
    return make("li", {}, name(one, "name clamp"), make("span", { class: "figure soft" }, counted(pictures, "picture")), make("span", { class: "row" }, wish("rename", "Rename"), wish("merge", "Merge")));
  }));
  by("change-class").hidden = !chosen;
  by("add-class").hidden = Boolean(chosen);
}

function choose(action, one) {
  chosen = { action, name: one };
  by("class-error").hidden = true;
  draw();
  const isMerge = action === "merge";
  by("change-title").replaceChildren(isMerge ? "Merge " : "Rename ", name(shortened(one)), isMerge ? " into" : " to");
  by("rename-row").hidden = isMerge;
  by("merge-row").hidden = !isMerge;
  by("change-go").textContent = isMerge ? "Merge" : "Rename";
  by("new-name").value = isMerge ? "" : one;
  const others = desk.state.classes.map((other) => other.name).filter((other) => other !== one);
  by("into").replaceChildren(...others.map((other) => make("option", { value: other }, shortened(other))));
  warn();
  by(isMerge ? "into" : "new-name").focus();
}

function warn() {
  const { action, name: one } = chosen;
  const pictures = desk.state.classes.find((other) => other.name === one)?.pictures ?? 0;
  const into = action === "merge" ? by("into").value : by("new-name").value.trim() || "…";
  const all = counted(pictures, "picture");
  const kept = " No file is moved, and no picture is embedded again. U takes it back.";
  const what = action === "merge"
    ? [all, " of ", name(shortened(one)), " become ", name(shortened(into)), ", and ", name(shortened(one)), " is a class no more."]
    : ["The class is called ", name(shortened(into)), " from now on; ", all, " go with it."];
  by("warning").replaceChildren(...what, kept);
}

async function carryOut(body, words) {
  by("class-error").hidden = true;
  try {
    await changeClasses(body);
  } catch (error) {
    by("class-error").textContent = error.message;
    by("class-error").hidden = false;
    return;
  }
  chosen = null;
  by("class-name").value = "";
  tell(words);
}

export function setUpClasses() {
  by("add-class").addEventListener("submit", (event) => {
    event.preventDefault();
    const one = by("class-name").value;
    carryOut({ action: "add", name: one }, `The class ${isolated(one)} was added.`);
  });
  by("change-class").addEventListener("submit", (event) => {
    event.preventDefault();
    const { action, name: one } = chosen;
    const to = action === "merge" ? by("into").value : by("new-name").value;
    carryOut({ action, name: one, to }, `${isolated(one)} ${action === "merge" ? "was merged into" : "is now called"} ${isolated(to)}.`);
  });
  by("change-stop").addEventListener("click", () => { chosen = null; draw(); });
  by("into").addEventListener("change", warn);
  by("new-name").addEventListener("input", warn);
}

/** The dialog after something has changed. */
export function redrawClasses() {
  if (by("classes").open && !chosen) draw();
}
