// What training again has changed.

import { ask, desk } from "./desk.js";
import { button, by, counted, key, make, name, percent, reach, tell, thumb } from "./drawing.js";

/** Draw the last change; `goOn` leads back to the queues. */
export function drawChange(goOn) {
  const change = desk.state.change;
  if (!change) {
    const none = "The desk has not trained again since it was started. Decide about some pictures, then press T.";
    by("change").replaceChildren(make("p", { class: "lead" }, none), button({ class: "button", id: "go-on" }, goOn, "Go on ", key("Esc")));
    return;
  }
  by("change").replaceChildren(...[
    make("p", { class: "lead", id: "change-lead" }, headline(change)),
    make("div", { class: "card two-bars" }, row("Before", change.before, "other"), row("Now", change.after, "ours"), scale()),
    make("p", {}, paired(change)),
    change.held_out_relabelled ? make("p", { class: "hint" }, corrected(change.held_out_relabelled)) : null,
    make("ul", { class: "tiles" },
      tile("Doubtful labels", `${change.suspects.before} → ${change.suspects.after}`),
      tile("Answers that changed", change.flipped.count.toLocaleString("en"), `${change.flipped.held_out} of them held out`),
      tile("Took", `${change.seconds.toFixed(1)} s`, "no picture embedded again")),
    make("p", { class: "row" }, button({ class: "button", id: "go-on" }, goOn, "Go on ", key("Esc")), saving()),
    ...flips(change.flipped),
  ].filter(Boolean));
}

function headline({ n, before, after }) {
  const of = ` on ${counted(n, "held-out picture")}`;
  if (before.value === after.value) return make("span", {}, "Accuracy stays at ", make("strong", {}, percent(after.value)), of, ".");
  const verb = after.value > before.value ? "rose" : "fell";
  return make("span", {}, `Accuracy ${verb} from `, make("strong", {}, percent(before.value)), " to ", make("strong", {}, percent(after.value)), of, ".");
}

function row(title, span, tone) {
  return make("div", { class: "span" }, make("span", {}, title), reach(span, tone),
    make("span", { class: "figure" }, make("b", {}, percent(span.value)), make("small", {}, `${percent(span.low, 0)} to ${percent(span.high, 0)}`)));
}

function scale() {
  const marks = [0, 0.25, 0.5, 0.75, 1].map((at) => {
    const mark = make("i", {}, String(100 * at));
    mark.style.left = `${100 * at}%`;
    return mark;
  });
  return make("div", { class: "span", "aria-hidden": "true" }, make("span"), make("small", { class: "scale" }, marks), make("span"));
}

function corrected(n) {
  const { first } = desk.state;
  const once = first ? ` By the labels of that time, the first training had ${percent(first.accuracy.value)}.` : "";
  return `${counted(n, "held-out picture")} ${n === 1 ? "has" : "have"} another label than the data gave. Both numbers here go by the labels as they are now.${once}`;
}

/** The paired test in words. */
function paired({ only_before, only_after, p, certain }) {
  if (!only_before && !only_after) return "Both trainings are right and wrong on the same of these pictures.";
  const counts = `${counted(only_after, "picture is", "pictures are")} right only now, ${counted(only_before, "was", "were")} right only before. `;
  const chance = p < 0.001 ? "less than once in 1,000 times" : p > 0.995 ? "always" : `${(100 * p).toFixed(p < 0.01 ? 1 : 0)} times in 100`;
  const verdict = certain ? "So it is a change that one can rely on." : "So it may be chance.";
  return `${counts}Chance alone would give such a difference ${chance}. ${verdict}`;
}

function tile(title, value, note = "") {
  return make("li", { class: "chip" }, make("span", {}, title), make("b", {}, value), note ? make("span", {}, note) : null);
}

function saving() {
  if (desk.state.tuned) return make("p", { class: "hint" }, "This run was fine-tuned: the desk trains the head alone. headstart train RUN trains all of it again.");
  const save = button({ class: "button quiet", id: "save" }, async () => {
    save.disabled = true;
    save.textContent = "Training the run again …";
    tell("The run folder is being trained again; it takes a moment.");
    try {
      const said = await ask("/api/save", {});
      tell(`The run folder holds the new classifier (${said.seconds.toFixed(0)} s).`, "good");
    } catch (error) {
      tell(error.message, "bad");
    }
    save.disabled = false;
    save.textContent = "Keep it in the run";
  }, "Keep it in the run");
  save.title = "As headstart train RUN does: predict and serve then use it";
  return save;
}

function flips({ count, pictures }) {
  if (!count) return [];
  const more = count > pictures.length ? ` (the first ${pictures.length})` : "";
  const items = pictures.map((one) => {
    const right = (said) => (said.label === one.label ? ["good", "✓"] : ["bad", "✗"]);
    const line = (word, said) => make("p", {}, make("small", {}, `${word} `), make("b", { class: right(said)[0] }, `${right(said)[1]}\u00a0`, make("span", { class: "hidden" }, said.label === one.label ? "right: " : "wrong: ")), name(said.label, "name clamp"), make("small", {}, ` ${percent(said.probability, 0)}`));
    return make("li", { class: "card flip" }, make("img", { src: thumb(one.id), alt: one.path, loading: "lazy" }),
      make("div", {}, line("before", one.before), line("now", one.after), make("p", {}, make("small", {}, "label "), name(one.label, "name clamp"), one.held_out ? make("span", { class: "flag" }, "held out") : null)));
  });
  return [make("h3", {}, `Answers that changed${more}`), make("ul", { class: "flips" }, items)];
}
