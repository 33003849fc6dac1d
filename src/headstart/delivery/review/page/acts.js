// What a person can do with the pictures that are present or selected, by whatever means.

import { decide, itemAt, redo, subject, totalOf, undo } from "./desk.js";
import { by, counted, isolated, tell } from "./drawing.js";
import { onPage, pickAll, pickRange, toggle } from "./grid.js";
import { centre, current } from "./single.js";
import { place, view } from "./view.js";

/** Set by the page: draw(), show(), move(place), next(place), train() and goOn(). */
export const page = {};

export const present = () => itemAt(view.queue, view.only, place());
export const picked = () => (view.mode === "grid" ? [...view.picked.values()] : []);

/** Carry `wishes` out, [action, ids, value], say so in words, and go to what comes next. */
function carryOut(wishes, words) {
  if (!wishes.length) return tell("There is nothing to decide about.");
  for (const [action, ids, value] of wishes) decide(action, ids, value);
  tell(`${words[0].toUpperCase()}${words.slice(1)}.${matchMedia("(max-width: 56rem)").matches ? "" : " U undoes."}`);
  view.zoomed = false;
  view.picked.clear();
  page.next(place());
}

const many = (items) => (items.length === 1 ? "" : `${items.length} pictures: `);
const targets = () => (picked().length ? picked() : [present()].filter(Boolean));

export const acts = {
  move: (to) => page.move(to),
  relabel(label) {
    const items = targets().map(current);
    carryOut(items.length ? [["relabel", items.map((one) => one.id), label]] : [], `${many(items)}relabelled as ${isolated(label)}`);
  },
  accept() {
    const items = targets();
    const pairs = items.length === 1 && items[0].twin ? "kept both" : "accepted";
    carryOut(items.length ? [["accept", items.map((one) => subject(one, "accept"))]] : [], `${many(items)}${pairs}`);
  },
  take() {
    const groups = new Map();
    for (const one of targets().map(current)) {
      if (one.suggested) groups.set(one.suggested, [...(groups.get(one.suggested) ?? []), one.id]);
    }
    const wishes = [...groups].map(([label, ids]) => ["relabel", ids, label]);
    carryOut(wishes, wishes.length === 1 ? `relabelled as ${isolated(wishes[0][2])}` : `${many(targets())}the suggestions taken`);
  },
  exclude(picture) {
    if (picture?.id || !picked().length) {
      const one = picture?.id ? picture : current(present());
      if (one) carryOut([[one.excluded ? "include" : "exclude", [one.id]]], one.excluded ? "taken back in" : "excluded");
      return;
    }
    const going = new Set(); // of pairs that hang together one picture must stay
    for (const one of picked()) {
      const gone = [one, one.twin].some((other) => other && (other.excluded || going.has(other.id)));
      if (!one.twin || !gone) going.add(one.twin ? one.twin.id : one.id);
    }
    carryOut(going.size ? [["exclude", [...going]]] : [], `${many([...going])}excluded`);
  },
  undo,
  redo,
  mark(number) {
    view.marked = number;
    page.draw();
  },
  zoom(frame, event) {
    view.zoomed = !view.zoomed;
    page.draw();
    if (view.zoomed) for (const one of document.querySelectorAll(".frame")) centre(one, frame === one ? event : undefined);
  },
  look() {
    view.looks = !view.looks;
    page.draw();
  },
  pick(number, event) {
    view.places.set(view.queue, number);
    if (event.shiftKey) pickRange(number, event.ctrlKey || event.metaKey);
    else if (event.ctrlKey || event.metaKey || event.pointerType === "touch") toggle(number);
    else {
      view.picked.clear();
      toggle(number);
    }
    page.draw();
  },
  open(number) {
    view.picked.clear();
    view.mode = "one";
    page.move(number);
  },
  pickAll() {
    pickAll();
    page.draw();
    tell(`${counted(view.picked.size, "picture")} selected`);
  },
  pickNone() {
    view.picked.clear();
    page.draw();
  },
  extend(to) {
    const total = totalOf(view.queue, view.only) ?? 0;
    if (!view.picked.size) view.anchor = place();
    const [low, high] = [onPage()[0]?.[0] ?? 0, onPage().at(-1)?.[0] ?? total - 1];
    view.places.set(view.queue, Math.max(low, Math.min(high, to)));
    pickRange(place());
    page.draw();
    by(`cell-${place()}`)?.scrollIntoView({ block: "nearest" });
  },
  toggle() {
    toggle(place());
    page.draw();
  },
  mode(mode) {
    view.mode = mode ?? (view.mode === "grid" ? "one" : "grid");
    view.picked.clear();
    view.anchor = place();
    view.zoomed = false;
    page.show();
    if (view.mode === "grid") setTimeout(() => { by("cells")?.focus({ preventScroll: true }); by(`cell-${place()}`)?.scrollIntoView({ block: "nearest" }); });
    else by("stage").focus({ preventScroll: true });
  },
  train: () => page.train(),
  escape() {
    if (view.mode === "change") page.goOn();
    else if (view.zoomed) acts.zoom();
    else if (view.picked.size) acts.pickNone();
    else if (view.mode === "grid") acts.mode("one");
  },
};
