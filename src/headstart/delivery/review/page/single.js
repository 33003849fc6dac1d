// One picture, or two that are nearly the same, large; and its neighbours.

import { desk, itemAt, load, totalOf } from "./desk.js";
import { button, by, decided, full, isolated, key, make, name, tell, thumb } from "./drawing.js";
import { place, view } from "./view.js";

const BEFORE = 5, AFTER = 9; // neighbours in the strip
const AHEAD = 3; // large pictures that are fetched before they are asked for
const ZOOM = 3;

/** The picture that keys act on: of two twins the marked one. */
export const current = (item) => (item?.twin && view.marked === 1 ? item.twin : item);

/** Draw `item`; `acts` has move(place), mark(number), zoom(), look(), exclude(picture). */
export function drawOne(item, acts) {
  const sight = by("sight");
  const shown = item ? [item.id, item.twin?.id].join() : "";
  if (sight.dataset.shown !== shown) {
    sight.dataset.shown = shown;
    const pictures = item ? [item, item.twin].filter(Boolean) : [];
    sight.classList.toggle("pair", pictures.length > 1);
    sight.replaceChildren(...pictures.map((one, number) => figure(one, number, pictures.length > 1, acts)), tools(acts));
  }
  if (!item) return;
  [item, item.twin].filter(Boolean).forEach((one, number) => brush(by(`shot-${number}`), one, number, Boolean(item.twin)));
  by("look").setAttribute("aria-pressed", String(view.looks));
  by("zoom").setAttribute("aria-pressed", String(view.zoomed));
  for (let next = place() + 1; next <= place() + AHEAD; next++) {
    const other = itemAt(view.queue, view.only, next);
    if (other) new Image().src = full(other.id);
  }
}

function figure(one, number, isPair, acts) {
  const image = make("img", { src: full(one.id), alt: `${number ? "The twin" : "The picture"}, ${one.path}`, draggable: "false" });
  image.addEventListener("error", () => (image.alt = "This picture cannot be shown: its file is gone or has changed."));
  const frame = make("div", { class: "frame", id: `frame-${number}` }, image);
  frame.addEventListener("click", (event) => {
    if (isPair && view.marked !== number) acts.mark(number);
    else acts.zoom(frame, event);
  });
  const caption = make("figcaption", { id: `path-${number}` }, path(one.path));
  const choose = isPair && button({ class: "button quiet", id: `mark-${number}`, "aria-describedby": `path-${number}` }, () => acts.mark(number), "Choose");
  const away = isPair && button({ class: "button quiet", id: `away-${number}`, "aria-describedby": `path-${number}` }, () => acts.exclude(one), "Exclude");
  return make("figure", { class: "shot", id: `shot-${number}` }, frame, caption, isPair && make("p", { class: "facts" }), isPair && make("p", { class: "row" }, choose, away));
}

/** A path whose folders give way before its name does. */
function path(text) {
  const end = text.lastIndexOf("/") + 1;
  return make("bdi", { class: "path name", title: text }, make("span", { class: "line folders" }, text.slice(0, end)), make("span", { class: "line" }, text.slice(end)));
}

function brush(shot, one, number, isPair) {
  const state = decided(one);
  shot.classList.toggle("marked", isPair && view.marked === number);
  shot.classList.toggle("gone", one.excluded);
  shot.classList.toggle("looks", view.looks);
  const frame = shot.querySelector(".frame");
  frame.classList.toggle("zoomed", view.zoomed);
  if (view.zoomed) frame.setAttribute("tabindex", "0");
  else frame.removeAttribute("tabindex");
  if (isPair) {
    const held = one.part === "test" ? make("span", { class: "flag" }, "held out") : null;
    const what = state ? make("span", { class: `verdict ${state.kind}` }, `${state.sign} ${state.word}`) : null;
    shot.querySelector(".facts").replaceChildren(...[name(one.label || "no label", "name clamp label"), held, what].filter(Boolean));
    by(`mark-${number}`).setAttribute("aria-pressed", String(view.marked === number));
    by(`mark-${number}`).textContent = view.marked === number ? "Chosen" : "Choose";
    by(`away-${number}`).textContent = one.excluded ? "Take back in" : "Exclude";
  }
  if (view.looks) look(shot, one);
  else shot.querySelector(".map")?.remove();
}

/** Put the map of what speaks for the predicted class over the picture. */
async function look(shot, one) {
  if (shot.querySelector(".map")) return;
  const map = make("img", { class: "map", alt: "Where the classifier looked", hidden: true });
  const frame = shot.querySelector(".frame");
  frame.append(map);
  frame.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`/api/saliency/${one.id}`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const address = URL.createObjectURL(await answer.blob());
    map.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    map.src = address;
    map.hidden = false;
  } catch (error) {
    view.looks = false;
    map.remove();
    by("look").setAttribute("aria-pressed", "false");
    tell(desk.online && error.name !== "TypeError" ? error.message : "The desk cannot be reached.", "bad");
  }
  frame.removeAttribute("aria-busy");
}

function tools(acts) {
  return make(
    "div",
    { class: "tools" },
    button({ class: "round", id: "previous", "aria-label": "Previous picture" }, () => acts.move(place() - 1), "‹"),
    make("span", { class: "middle" },
      button({ class: "button quiet", id: "look", "aria-pressed": "false" }, acts.look, "Where it looked ", key("S")),
      button({ class: "button quiet", id: "zoom", "aria-pressed": "false" }, () => acts.zoom(), "Zoom ", key("Z"))),
    button({ class: "round", id: "next", "aria-label": "Next picture" }, () => acts.move(place() + 1), "›"),
  );
}

/** Scroll so that the point of the click stays where it was; without one, to the middle. */
export function centre(frame, event) {
  const box = frame.getBoundingClientRect();
  const across = event ? (event.clientX - box.left) / box.width : 0.5;
  const down = event ? (event.clientY - box.top) / box.height : 0.5;
  frame.scrollTo({ left: across * box.width * (ZOOM - 1), top: down * box.height * (ZOOM - 1), behavior: "instant" });
}

/** The neighbours of the present picture. */
export function drawStrip(move) {
  const total = totalOf(view.queue, view.only) ?? 0;
  const from = Math.max(0, Math.min(place() - BEFORE, total - BEFORE - AFTER - 1));
  const tiles = [];
  for (let number = from; number < Math.min(total, from + BEFORE + AFTER + 1); number++) {
    tiles.push(tile(number, itemAt(view.queue, view.only, number), move));
  }
  by("strip").replaceChildren(...tiles);
  by("strip").hidden = view.mode !== "one" || !tiles.length;
  const here = by(`near-${place()}`);
  if (here) by("strip").scrollLeft = here.offsetLeft - (by("strip").clientWidth - here.clientWidth) / 2;
  if (total) load(view.queue, view.only, Math.min(total - 1, place() + AFTER)).catch(() => {});
}

function tile(number, item, move) {
  const isHere = number === place();
  const state = item && decided(item);
  return button(
    { class: `tile ${state?.kind ?? ""}`, id: `near-${number}`, tabindex: isHere ? "0" : "-1", "aria-current": isHere ? "true" : null,
      "aria-label": `Picture ${number + 1}${item ? `, ${item.label ? isolated(item.label) : "no label"}` : ""}${state ? `, ${state.word}` : ""}` },
    () => move(number),
    item && make("img", { src: thumb(item.id), alt: "", loading: "lazy" }),
    state && make("span", { class: "sign", "aria-hidden": "true" }, state.sign),
  );
}
