// What is known of the picture, and what can be decided about it.

import { desk } from "./desk.js";
import { button, by, counted, decided, key, make, name, percent, sentence } from "./drawing.js";
import { current } from "./single.js";
import { view } from "./view.js";

const FIND_FROM = 10; // classes from which on they can be searched

/** Draw the panel: for one `item`, or for those that are `picked`; `acts` has what a person can decide. */
export function drawSide(item, picked, keys, acts) {
  const about = picked.length ? forMany(picked, acts) : item ? forOne(item) : [];
  const wanted = by("find")?.value ?? "";
  const panel = item || picked.length ? [actions(item, picked, acts), classes(item, picked, keys, acts)] : [];
  by("side").replaceChildren(make("div", { class: "says" }, about), ...panel);
  if (by("find")) {
    by("find").value = wanted;
    narrow();
  }
}

function forOne(item) {
  const one = current(item);
  const state = decided(item.twin ? one : item) ?? (item.twin ? decided(item) : null);
  const held = one.part === "test" ? make("span", { class: "flag", title: "Never trained on; accuracy is measured with these" }, "held out") : null;
  const out = one.part === "out" ? make("span", { class: "flag" }, "left out of training") : null;
  return [
    make("dl", { class: "labels" },
      make("div", {}, make("dt", {}, "Labelled"), make("dd", {}, one.label ? name(one.label, "name clamp label") : make("span", { class: "soft" }, "not yet"))),
      one.suggested ? make("div", { class: one.suggested === one.label ? "" : "other" },
        make("dt", {}, "Suggested"),
        make("dd", {}, name(one.suggested, "name clamp label"), " ", one.probability === null ? null : make("data", { value: one.probability, class: "soft nowrap" }, percent(one.probability)))) : null),
    one.suggested && one.probability !== null ? sureness(one.probability) : null,
    item.reason ? make("p", { class: "reason" }, make("span", { class: "name" }, sentence(item.reason))) : null,
    make("p", { class: "facts" }, held, out, state && make("span", { class: `verdict ${state.kind}` }, `${state.sign} ${sentence(state.word)}`)),
  ];
}

function sureness(probability) {
  const bar = make("span", { class: "reach" });
  bar.style.left = "0";
  bar.style.width = `${100 * probability}%`;
  return make("span", { class: "bar whole ours sure", "aria-hidden": "true" }, bar);
}

function forMany(picked, acts) {
  return [
    make("p", { class: "many" }, make("strong", {}, `${counted(picked.length, "picture")} selected`)),
    make("p", { class: "row" }, button({ class: "button quiet", id: "pick-all" }, acts.pickAll, "All here ", key("Ctrl A")), button({ class: "button quiet", id: "pick-none" }, acts.pickNone, "None ", key("Esc"))),
  ];
}

const line = (text) => name(text, "line");

function actions(item, picked, acts) {
  const isPair = !picked.length && Boolean(item.twin);
  const one = picked.length ? null : current(item);
  const isOut = one?.excluded ?? false;
  const suggests = picked.length ? picked.some((other) => other.suggested && other.suggested !== other.label) : one.label && one.suggested && one.suggested !== one.label;
  const accept = isPair ? ["Keep both"] : !one ? ["The labels are right"] : !one.label ? ["Add as ", line(one.suggested)] : [line(one.label), " is right"];
  const take = one ? ["No, ", line(one.suggested)] : ["Take the suggestions"];
  const wide = (id, press, words, cap, kind = "quiet") => button({ class: `button ${kind} act`, id, "aria-keyshortcuts": cap }, press, make("span", { class: "words" }, words), key(cap));
  return make("div", { class: "acts" },
    wide("accept", acts.accept, accept, "Space", ""),
    suggests ? wide("take", acts.take, take, "Enter") : null,
    wide("exclude", acts.exclude, isOut ? "Take it back in" : isPair ? `Exclude the ${view.marked ? "second" : "first"}` : picked.length && picked[0].twin ? "Exclude one of each" : "Exclude", "X"),
    wide("undo", acts.undo, "Undo", "U"),
    wide("redo", acts.redo, "Redo", "R"),
  );
}

function classes(item, picked, keys, acts) {
  const one = picked.length ? null : current(item);
  const rows = desk.state.classes.map(({ name: label, pictures }, place) => {
    const isNow = one?.label === label;
    const caps = make("span", { class: "caps" }, keys.get(label).map((cap) => key(cap.toUpperCase())));
    const sign = isNow ? "✓" : one?.suggested === label ? "?" : "";
    const word = isNow ? ", the label now" : one?.suggested === label ? ", suggested" : "";
    return make("li", {}, button(
      { class: "class", id: `class-${place}`, "aria-pressed": one ? String(isNow) : null, "aria-keyshortcuts": keys.get(label).join(" ") || null },
      () => acts.relabel(label),
      caps, name(label, "name clamp"), make("span", { class: "sign", "aria-hidden": "true" }, sign), make("span", { class: "hidden" }, word),
      make("span", { class: "soft figure" }, pictures.toLocaleString("en"), make("span", { class: "hidden" }, pictures === 1 ? " picture" : " pictures"))));
  });
  const find = desk.state.classes.length < FIND_FROM ? null : make("input", { id: "find", type: "search", placeholder: "Find a class  /", "aria-label": "Find a class", autocomplete: "off", spellcheck: "false" });
  find?.addEventListener("input", narrow);
  find?.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { find.value = ""; narrow(); by("stage").focus(); }
    const label = event.key === "Enter" ? found()[0] : undefined;
    if (label === undefined) return;
    event.preventDefault();
    find.value = "";
    by("stage").focus({ preventScroll: true });
    acts.relabel(label);
  });
  return make("section", { class: "classes", "aria-labelledby": "classes-here" },
    make("h3", { id: "classes-here" }, picked.length ? "They are all" : item.twin ? "The chosen one is" : "It is"), find, make("ul", { id: "class-list" }, rows));
}

function found() {
  const wanted = by("find").value.trim().toLowerCase();
  const names = desk.state.classes.map((one) => one.name);
  const begin = names.filter((one) => one.toLowerCase().startsWith(wanted));
  return wanted ? [...begin, ...names.filter((one) => one.toLowerCase().includes(wanted) && !begin.includes(one))] : [];
}

/** Show only the classes that were searched for. */
function narrow() {
  const right = new Set(found());
  const isAll = !by("find").value.trim();
  [...by("class-list").children].forEach((row, place) => (row.hidden = !isAll && !right.has(desk.state.classes[place].name)));
}
