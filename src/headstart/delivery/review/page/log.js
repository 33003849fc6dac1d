// All decisions as a table: who, when, what, before and after.

import { ask } from "./desk.js";
import { by, counted, ending, make, name } from "./drawing.js";

const SHOWN = 3; // pictures of one decision that are named
const WORDS = { relabel: "relabelled", accept: "accepted", exclude: "excluded", include: "included again", add: "added", rename: "class renamed", class: "class added", applied: "files moved", returned: "files moved back", undo: "undid", redo: "redid" };

export async function openLog() {
  by("log-table").replaceChildren();
  by("log-about").textContent = "Reading …";
  by("log").showModal();
  try {
    const { decisions } = await ask("/api/log");
    by("log-about").textContent = decisions.length ? `${counted(decisions.length, "step")}, the newest first. Nothing is ever deleted: an undo is a step too.` : "Nothing was decided yet.";
    if (decisions.length) by("log-table").replaceChildren(table(decisions));
  } catch (error) {
    by("log-about").textContent = error.message;
  }
}

function table(decisions) {
  const undone = new Set();
  for (const row of [...decisions].reverse()) {
    if (row.action === "undo") undone.add(row.target);
    if (row.action === "redo") undone.delete(row.target);
  }
  const heads = ["Step", "When", "Who", "What", "Pictures", "Before", "After"].map((text) => make("th", { scope: "col" }, text));
  return make("table", {}, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, decisions.map((row) => line(row, undone.has(row.revision)))));
}

function line(row, isUndone) {
  const when = new Date(row.at);
  const what = `${WORDS[row.action] ?? row.action}${row.target ? ` step ${row.target}` : ""}`;
  const shown = row.pictures.slice(0, SHOWN);
  const more = row.pictures.length - shown.length;
  const isPicture = !["rename", "class"].includes(row.action);
  const listed = shown.map((one) => make("div", {}, one.path ? ending(one.path) : name(/^[0-9a-f]{64}/.test(one.id) ? "a pair" : one.id)));
  return make("tr", { class: isUndone ? "undone" : "" },
    make("td", { class: "figure" }, String(row.revision)),
    make("td", {}, make("time", { datetime: row.at, title: when.toLocaleString() }, when.toLocaleString("en-GB", { dateStyle: "short", timeStyle: "medium" }))),
    make("td", {}, name(row.who)),
    make("td", {}, what, isUndone ? make("small", {}, " (undone)") : null),
    make("td", {}, listed, more > 0 ? make("small", {}, `and ${more} more`) : null),
    make("td", {}, isPicture && shown[0] ? words(shown[0].before, shown[0].label) : null),
    make("td", {}, isPicture && shown[0] ? words(shown[0].after, shown[0].label) : name(row.value ?? "")));
}

/** What held of a picture, in words: what was decided, or else the label that it came with. */
function words(held, given) {
  if (held?.excluded) return "excluded";
  const label = held?.label ?? given;
  return make("span", {}, name(label || "no label"), held?.accepted != null ? make("small", {}, " accepted") : null);
}
