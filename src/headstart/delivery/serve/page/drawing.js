// An answer as a card and as a row. Names come from strangers: they only ever become text.

const MOST_BARS = 5;
const OPEN = new Set(); // ids of the cards that show every class

/** An element with attributes and children; texts become text nodes. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const percent = (share) => `${(100 * share).toFixed(1)}\u202f%`;

const number = (value, shown) => make("data", { value: String(value) }, shown);
const name = (text) => make("bdi", { class: "name" }, text);

/** The classes of a set in words, as elements. */
function listed(names) {
  return names.flatMap((one, index) => (index ? [", ", name(one)] : [name(one)]));
}

function bar(label, probability, inSet) {
  const reach = make("span", { class: "reach" });
  reach.style.width = `${100 * probability}%`;
  return make(
    "li",
    { class: inSet ? "inside" : "outside" },
    make("span", { class: "of" }, name(label), inSet ? make("span", { class: "hidden" }, " (in the set)") : null),
    make("span", { class: "figure" }, number(probability, percent(probability))),
    make("span", { class: `bar whole ${inSet ? "ours" : "other"}`, "aria-hidden": "true" }, reach),
  );
}

function bars(item, redraw) {
  // Sorted here, as an object gives names that are numbers in the order of the numbers.
  const classes = Object.entries(item.answer.probabilities).sort(([, one], [, other]) => other - one);
  const inside = new Set(item.answer.set);
  const whole = OPEN.has(item.id) || classes.length <= MOST_BARS + 1;
  const shown = whole ? classes : classes.slice(0, MOST_BARS);
  const list = make("ul", { class: "chances", "aria-label": "Probabilities" });
  list.append(...shown.map(([label, probability]) => bar(label, probability, inside.has(label))));
  if (whole) return [list];
  const more = make("button", { type: "button", class: "more" }, `Show all ${classes.length} classes`);
  more.addEventListener("click", () => {
    OPEN.add(item.id);
    redraw(item);
  });
  return [list, more];
}

function setLine(answer) {
  const inside =
    answer.set.length === 0 ? ["No class is probable enough for the set."]
    : answer.set.length === 1 ? ["Set: only ", ...listed(answer.set), "."]
    : ["Set: ", ...listed(answer.set), "."];
  return make("p", { class: "hint set" }, ...inside);
}

function noneOfThese(answer) {
  if (!answer.none_of_these.flag) return null;
  const score = number(answer.none_of_these.score, answer.none_of_these.score.toFixed(3));
  return make(
    "div",
    { class: "chip warn none" },
    make("strong", {}, "None of these?"),
    make("span", {}, "Unlike the pictures that the model learnt from (score ", score, "; above 1 is unlike)."),
  );
}

/** What the colours of the map mean, while it is shown. */
function legend(item) {
  if (!item.shown) return null;
  const scale = make("span", { class: "legend-scale", "aria-hidden": "true" });
  return make("p", { class: "hint legend" }, "Speaks for ", name(item.answer.label), ": little ", scale, " much. What is grey it did not see.");
}

function frame(item, look) {
  if (!item.thumbnail) return make("div", { class: "frame" }, make("span", { class: "blank" }, item.noPreview ? "no preview" : ""));
  const picture = make("img", { class: "thumb", src: item.thumbnail, alt: "" });
  if (!item.answer || !look) return make("div", { class: "frame" }, picture);
  const label = item.overlay ? "Where it looked" : item.looking ? "Looking …" : "Where it looked";
  const button = make(
    "button",
    { type: "button", class: "frame looks", "aria-pressed": String(Boolean(item.shown)), "aria-busy": String(Boolean(item.looking)) },
    picture,
    item.overlay ? make("img", { class: "overlay", src: item.overlay, alt: "" }) : null,
    make("span", { class: "look-hint" }, label, make("span", { class: "hidden" }, ` in ${item.file.name}`)),
  );
  button.addEventListener("click", () => look(item));
  return button;
}

function body(item, { redraw, again }) {
  const title = make("h3", { class: "file" }, name(item.file.name));
  if (item.answer) {
    const { label, probability } = item.answer;
    const doubt = item.answer.none_of_these.flag ? " doubtful" : "";
    const head = make("p", { class: `verdict${doubt}` }, make("strong", {}, name(label)), " ", number(probability, percent(probability)));
    return [legend(item), title, noneOfThese(item.answer), head, ...bars(item, redraw), setLine(item.answer)];
  }
  if (item.error) {
    const retry = item.canRetry ? make("button", { type: "button", class: "button quiet" }, "Try again") : null;
    retry?.addEventListener("click", () => again(item));
    const chip = make("div", { class: "chip bad" }, make("strong", {}, item.error.title), make("span", {}, item.error.detail));
    return [title, chip, retry];
  }
  return [title, make("p", { class: "soft waiting" }, item.busy ?? "Waiting …")];
}

/** The card of a picture, whatever state it is in. */
export function card(item, actions) {
  const state = item.answer ? "answered" : item.error ? "refused" : "pending";
  return make("li", { class: `card answer ${state}`, id: `card-${item.id}` }, frame(item, actions.look), make("div", { class: "says" }, ...body(item, actions).filter(Boolean)));
}

/** The row of a picture in the table. */
export function row(item) {
  const small = item.thumbnail ? make("img", { class: "small", src: item.thumbnail, alt: "" }) : make("span", { class: "small" });
  const first = make("th", { scope: "row" }, make("span", { class: "with-thumb" }, small, name(item.file.name)));
  if (!item.answer) {
    const text = item.error ? `${item.error.title} ${item.error.detail}` : (item.busy ?? "Waiting …");
    return make("tr", { id: `row-${item.id}` }, first, make("td", { colspan: "3", class: item.error ? "wrong" : "soft" }, make("span", {}, text)));
  }
  const { label, probability, set, none_of_these: strange } = item.answer;
  const flag = strange.flag ? make("span", { class: "flag" }, "⚠ none of these?") : null;
  return make(
    "tr",
    { id: `row-${item.id}` },
    first,
    make("td", { class: strange.flag ? "doubtful" : null }, make("b", {}, name(label)), flag),
    make("td", { class: "figure" }, number(probability, percent(probability))),
    make("td", {}, ...(set.length ? listed(set) : ["none"])),
  );
}
