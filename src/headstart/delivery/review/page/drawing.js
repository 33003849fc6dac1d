// Small pieces of the page. Names and paths come from strangers: they only ever become text.

/** An element with attributes and children; texts become text nodes. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

export const by = (id) => document.getElementById(id);
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u202f%`;
export const counted = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
export const name = (text, kind = "name") => make("bdi", { class: kind, title: text }, text);

/** Of a long path the last folder and the name of the file. */
export function ending(path) {
  const parts = path.split("/");
  return make("bdi", { class: "name", title: path }, parts.length < 3 ? path : ["…", ...parts.slice(-2)].join("/"));
}

export const key = (text) => make("kbd", { "aria-hidden": "true" }, text);
export const thumb = (id) => `/api/picture/${id}?size=thumb`;
export const full = (id) => `/api/picture/${id}?size=full`;
export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : text);

/** Names in a sentence would drown it: the middle of a long one is left out. */
export const shortened = (text) => (text.length > 60 ? `${text.slice(0, 30)}…${text.slice(-28)}` : text);

/** A name within plain text, where its direction must not turn the rest round. */
export const isolated = (text) => `\u2068${shortened(text)}\u2069`;

/** A button; `attributes` may hold any of the element's. */
export function button(attributes, press, ...children) {
  const element = make("button", { type: "button", ...attributes }, ...children);
  element.addEventListener("click", press);
  return element;
}

/** A share with its interval on an axis from 0 to 1. */
export function reach({ value, low, high }, tone) {
  const from = make("span", { class: "reach" });
  const point = make("span", { class: "point" });
  from.style.left = `${100 * low}%`;
  from.style.width = `${100 * (high - low)}%`;
  point.style.left = `${100 * value}%`;
  return make("span", { class: `bar ${tone}`, "aria-hidden": "true" }, from, point);
}

/** What was decided of a picture since the last training, in a sign and a word; null where it waits. */
export function decided(item) {
  const words = { relabel: "relabelled", add: "added", accept: "accepted", exclude: "excluded", include: "included again" };
  if (item.excluded && item.decision !== "exclude" && !item.twin) return { sign: "✗", word: "excluded", kind: "bad" };
  if (!item.decision) return null;
  const sign = item.decision === "exclude" ? "✗" : item.decision === "relabel" ? "↦" : "✓";
  return { sign, word: words[item.decision], kind: item.decision === "exclude" ? "bad" : "good" };
}

let clearing = 0;
let speaking = 0;
let words = [];

/** Say something to those who listen; what comes within a moment is said together. */
export function announce(text) {
  words.push(text);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    by("status").textContent = words.join(" ");
    words = [];
  }, 60);
}

/** Tell the person something: for eyes at the bottom for a while, and for ears at once. */
export function tell(text, kind = "") {
  const toast = by("toast");
  toast.textContent = text;
  toast.className = `toast ${kind}`;
  toast.hidden = false;
  announce(text);
  clearTimeout(clearing);
  clearing = setTimeout(() => (toast.hidden = true), kind === "bad" ? 12_000 : 4_000);
}

/** Draw anew, and leave the keyboard's focus where it was. */
export function keepingFocus(draw) {
  const before = document.activeElement?.id;
  draw();
  if (!before || document.activeElement?.id === before) return;
  (by(before) ?? by("stage")).focus({ preventScroll: true });
}
