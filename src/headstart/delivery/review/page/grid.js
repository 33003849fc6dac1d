// Many pictures at once: a page of a queue, of which any number can be selected.

import { CHUNK, itemAt, totalOf } from "./desk.js";
import { button, by, counted, decided, make, name, thumb } from "./drawing.js";
import { place, view } from "./view.js";

const first = () => Math.floor(place() / CHUNK) * CHUNK;
const last = () => Math.min(totalOf(view.queue, view.only) ?? 0, first() + CHUNK) - 1;

/** The items of the present page, with their places. */
export function onPage() {
  const found = [];
  for (let number = first(); number <= last(); number++) {
    const item = itemAt(view.queue, view.only, number);
    if (item) found.push([number, item]);
  }
  return found;
}

/** How many stand in a row of the grid. */
export function columns() {
  const list = by("cells");
  return list ? getComputedStyle(list).gridTemplateColumns.split(" ").length : 1;
}

/** Draw the page; `acts` has move(place), pick(place, event), open(place). */
export function drawGrid(acts) {
  const sheet = by("sheet");
  const items = onPage();
  const shown = `${view.queue} ${view.only} ${items.map(([, item]) => item.id).join()}`;
  if (sheet.dataset.shown !== shown || !by("cells")) {
    sheet.dataset.shown = shown;
    const list = make("ul", { id: "cells", class: "cells", role: "listbox", "aria-multiselectable": "true", tabindex: "0", "aria-label": "Pictures of this queue" });
    list.append(...items.map(([number, item]) => cell(number, item, acts)));
    sheet.replaceChildren(list, pages(acts));
  }
  for (const [number, item] of items) brush(by(`cell-${number}`), item, number);
  by("cells").setAttribute("aria-activedescendant", `cell-${place()}`);
  for (const [id, isOff] of [["page-before", first() === 0], ["page-after", last() + 1 >= (totalOf(view.queue, view.only) ?? 0)]]) {
    if (by(id)) by(id).disabled = isOff;
  }
}

function cell(number, item, acts) {
  const pictures = [item, item.twin].filter(Boolean).map((one) => make("img", { src: thumb(one.id), alt: "", loading: "lazy", draggable: "false" }));
  const element = make("li", { role: "option", id: `cell-${number}`, class: item.twin ? "cell two" : "cell" },
    make("span", { class: "thumbs" }, pictures), make("span", { class: "under" }));
  element.addEventListener("click", (event) => acts.pick(number, event));
  element.addEventListener("dblclick", () => acts.open(number));
  return element;
}

function brush(element, item, number) {
  const state = decided(item);
  const isPicked = view.picked.has(item.id);
  element.setAttribute("aria-selected", String(isPicked));
  element.classList.toggle("here", number === place());
  element.classList.toggle("gone", item.excluded || state?.kind === "bad");
  element.classList.toggle("done", Boolean(state));
  const label = item.label || item.suggested;
  const other = item.suggested && item.label && item.suggested !== item.label ? [make("span", { class: "soft" }, " ? "), name(item.suggested, "name soft")] : [];
  const unsure = item.label ? null : make("span", { class: "soft" }, "? ");
  const twin = item.twin ? [make("span", { class: "soft" }, " | "), name(item.twin.label)] : other;
  element.querySelector(".under").replaceChildren(
    ...[state && make("b", { class: state.kind }, `${state.sign} `, make("span", { class: "hidden" }, `${state.word}, `)), unsure, name(label || "no label"), ...twin].filter(Boolean),
  );
}

function pages(acts) {
  const total = totalOf(view.queue, view.only) ?? 0;
  if (total <= CHUNK) return make("p", { class: "pages" });
  const text = `${first() + 1} to ${last() + 1} of ${counted(total, "picture")}`;
  return make("p", { class: "pages" },
    button({ class: "button quiet", id: "page-before" }, () => acts.move(first() - CHUNK), "‹ Before"),
    make("span", { class: "soft" }, text),
    button({ class: "button quiet", id: "page-after" }, () => acts.move(first() + CHUNK), "After ›"));
}

/** Select everything from the anchor to `number`. */
export function pickRange(number, keep = false) {
  if (!keep) view.picked.clear();
  const [from, to] = [Math.min(view.anchor, number), Math.max(view.anchor, number)];
  for (let at = from; at <= to; at++) {
    const item = itemAt(view.queue, view.only, at);
    if (item) view.picked.set(item.id, item);
  }
}

export function toggle(number) {
  const item = itemAt(view.queue, view.only, number);
  if (!item) return;
  view.anchor = number;
  if (!view.picked.delete(item.id)) view.picked.set(item.id, item);
}

export function pickAll() {
  for (const [, item] of onPage()) view.picked.set(item.id, item);
}
