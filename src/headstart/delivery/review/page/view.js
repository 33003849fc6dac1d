// What is looked at: the queue, the place in each, and whether one picture or many. It stands in the address, for a reload.

export const QUEUES = {
  labels: { title: "Doubtful labels", about: "A classifier that did not see the picture says another class. The likeliest errors come first.", none: "No label looks wrong." },
  twins: { title: "Near duplicates", about: "Nearly the same picture twice. Which one stays?", none: "No two pictures are nearly the same." },
  uncertain: { title: "Most uncertain", about: "Between two classes, and unlike each other: here a label teaches most.", none: "The classifier is sure of everything." },
  mistakes: { title: "Mistakes", about: "Taken for another class; the most confident mistakes first.", none: "There are no mistakes." },
  strangers: { title: "Strangers", about: "Unlike all the others: perhaps none of these classes.", none: "No picture is unlike all the others." },
  new: { title: "New pictures", about: "Without a label as yet, by the class that the classifier says. Accepting adds them with it.", none: "To label new pictures, start the desk with --unlabelled and their folder." },
  all: { title: "All pictures", about: "Everything that the run has, by label.", none: "There are no pictures." },
};

export const view = {
  queue: "labels",
  mode: "one", // "one", "grid" or "change"
  only: "", // in the queue of all pictures: this class alone
  places: new Map(), // by queue
  picked: new Map(), // the items that are selected in the grid, by id
  anchor: 0, // where a range of them began
  looks: false, // the saliency map is shown
  zoomed: false,
  marked: 1, // of two twins, which one keys act on
};

export const place = () => view.places.get(view.queue) ?? 0;

export function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  view.queue = said.get("queue") in QUEUES ? said.get("queue") : "labels";
  view.mode = ["grid", "change"].includes(said.get("view")) ? said.get("view") : "one";
  view.only = view.queue === "all" ? (said.get("only") ?? "") : "";
  view.places.clear();
  for (const queue of Object.keys(QUEUES)) {
    const number = Number.parseInt(said.get(queue) ?? "", 10);
    if (number >= 0) view.places.set(queue, number);
  }
}

export function toAddress() {
  const said = new URLSearchParams({ queue: view.queue });
  if (view.mode !== "one") said.set("view", view.mode);
  if (view.only) said.set("only", view.only);
  for (const [queue, number] of view.places) said.set(queue, number);
  if (`#${said}` !== location.hash) history.replaceState(null, "", `#${said}`);
}
