// The model inside the page: unpacked once, then asked in a worker, so that the page stays awake.

export const about = JSON.parse(document.getElementById("about").textContent);

const waiting = new Map(); // the numbers of questions -> who waits for the answer
const crew = { worker: null, next: 1 };

/** The bytes that stand in an element as gzip in base64; the element is emptied. */
async function unpacked(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent);
  element.textContent = "";
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place += 1) bytes[place] = text.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Start the model; says whether this browser reads pixels as they are. */
export async function start() {
  const [script, binary, model] = await Promise.all(["worker", "binary", "model"].map(unpacked));
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  crew.worker = new Worker(address);
  crew.worker.onmessage = ({ data }) => {
    waiting.get(data.id)?.(data);
    waiting.delete(data.id);
  };
  const broken = new Promise((_, reject) => {
    crew.worker.onerror = (event) => reject(new Error(event.message || "the worker cannot be started"));
  });
  const begin = { model, binary, preprocessing: about.preprocessing };
  const begun = await Promise.race([asked(begin, [model.buffer, binary.buffer]), broken]);
  if (begun.error) throw new Error(begun.error.detail);
  return begun;
}

function asked(message, moved = []) {
  const id = crew.next++;
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    crew.worker.postMessage({ id, ...message }, moved);
  });
}

/** What the model says of a file: {answer, pixels, milliseconds}, or {error}; `pixels` are what it saw. */
export async function answered(file) {
  return worded(await asked({ file }));
}

/** The same of RGB bytes that are fitted already. */
export async function answeredPixels(pixels) {
  return worded(await asked({ pixels }));
}

/** Numbers as `headstart predict` puts them: the likeliest class, its set, and whether it is none of these. */
function worded({ error, probabilities, novelty, pixels, milliseconds }) {
  if (error) return { answer: null, error };
  const order = probabilities.map((_, place) => place).sort((one, other) => probabilities[other] - probabilities[one]);
  const inside = order.filter((place, rank) => rank === 0 || probabilities[place] >= about.floor);
  const named = (place) => about.classes[place];
  return {
    answer: {
      label: named(order[0]),
      probability: probabilities[order[0]],
      probabilities: Object.fromEntries(order.map((place) => [named(place), probabilities[place]])),
      set: inside.map(named),
      none_of_these: { flag: novelty > 1, score: novelty },
    },
    error: null,
    pixels,
    milliseconds,
  };
}
