// The keyboard. Single keys can be switched off, for people whose other tools speak in keys.

import { by, key, make, tell } from "./drawing.js";
import { columns } from "./grid.js";

const KEPT = "headstart-keys";
const HELP = [
  ["1 2 3 … A B C …", "relabel: the key beside the class"],
  ["/", "find a class by its name, where there are many"],
  ["Space", "accept: the label is right (of two twins: both stay)"],
  ["Enter", "take the suggestion"],
  ["X", "exclude, or take back in (of two twins: the chosen one)"],
  ["U", "undo, as often as you like"],
  ["R · Shift U", "redo"],
  ["← →", "the picture before, the next"],
  ["↑ ↓", "of two twins: which one keys act on; in the grid: a row up, down"],
  ["S", "where the classifier looked"],
  ["Z", "zoom; arrows then move within the picture"],
  ["G", "grid: many at once"],
  ["Shift arrows · Ctrl A", "in the grid: select several, or all"],
  ["Ctrl Space", "in the grid: select one more, or one less"],
  ["T", "train again, and see what changed"],
  ["Esc", "close, or one step back"],
];

/** Listen; `at` has acts, view, keys(), isUsable(), place() and total(). */
export function setUpKeys(at) {
  by("keys").replaceChildren(...HELP.map(([caps, what]) => make("div", {}, make("dt", {}, caps.split(" · ").map((one, place) => [place ? " or " : null, ...one.split(" ").map((cap) => key(cap))])), make("dd", {}, what))));
  for (const cap of by("keys").querySelectorAll("kbd")) cap.removeAttribute("aria-hidden");
  by("single-keys").checked = localStorage.getItem(KEPT) !== "off";
  by("single-keys").addEventListener("change", () => localStorage.setItem(KEPT, by("single-keys").checked ? "on" : "off"));
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    if (pressed(event, at)) event.preventDefault();
  });
}

function pressed(event, at) {
  const { acts, view } = at;
  if (event.target.closest("input, select, textarea")) return false;
  if (event.key === "Escape") return run(acts.escape);
  if (event.ctrlKey || event.metaKey) return withControl(event, at);
  if (event.altKey) return false;
  if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") return at.isUsable() && arrows(event, at);
  if (!by("single-keys").checked) return false;
  if (event.key === "?") return run(() => by("help").showModal());
  if (event.repeat) return false; // a key that is held down must not decide about a hundred pictures
  const letter = event.key.toLowerCase();
  if (letter === "t" && !event.shiftKey) return run(acts.train);
  if (!at.isUsable()) return view.mode === "change" && event.key === "Enter" && !event.target.closest("button, a") && run(acts.escape);
  if ((event.key === " " || event.key === "Enter") && event.target.closest("button, a, summary")) return false; // presses that
  const own = { " ": acts.accept, enter: acts.take, x: acts.exclude, u: event.shiftKey ? acts.redo : acts.undo, r: acts.redo, s: acts.look, z: acts.zoom, g: acts.mode }[letter];
  if (own) return run(() => own());
  if (letter === "/" && by("find")) return run(() => by("find").focus());
  for (const [label, caps] of at.keys()) if (caps.includes(letter)) return run(() => acts.relabel(label));
  if (/^[a-z0-9]$/.test(letter)) tell(`No class has the key ${letter.toUpperCase()}; ? shows them all.`);
  return false;
}

function run(act) {
  act();
  return true;
}

function withControl(event, { acts, view, isUsable }) {
  const letter = event.key.toLowerCase();
  if (!isUsable()) return false;
  if (letter === "z") return run(event.shiftKey ? acts.redo : acts.undo);
  if (view.mode !== "grid") return false;
  if (letter === "a") return run(acts.pickAll);
  if (event.key === " ") return run(acts.toggle);
  return false;
}

function arrows(event, { acts, view, place, total }) {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -place(), End: total() - 1 - place() }[event.key];
  if (view.mode === "grid") return run(() => (event.shiftKey ? acts.extend(place() + step) : acts.move(place() + step)));
  const sideways = ["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key);
  if (view.zoomed && event.key.startsWith("Arrow")) {
    const [across, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    for (const frame of document.querySelectorAll(".frame")) frame.scrollBy({ left: 80 * across, top: 80 * down });
    return true;
  }
  if (sideways) return run(() => acts.move(place() + step));
  if (document.querySelector(".sight.pair")) return run(() => acts.mark(event.key === "ArrowDown" ? 1 : 0));
  return false;
}
