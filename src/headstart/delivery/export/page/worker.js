// The worker: beside the page, so that it stays awake, it decodes, fits and asks the network, one picture after the other.
// The runtime stands before this text as `headstartRuntime`, and fit.js and decode.js do too.

import { decoded, readsTruly, Refusal } from "./decode.js";
import { fitted } from "./fit.js";

let session, how;
let turn = Promise.resolve();

onmessage = ({ data }) => {
  turn = turn.then(() => reply(data));
};

async function reply(message) {
  try {
    postMessage({ id: message.id, ...(await (message.model ? begin(message) : answer(message))) });
  } catch (error) {
    const known = error instanceof Refusal;
    const refused = known ? [error.title, error.detail] : ["Something went wrong.", String(error?.message ?? error)];
    postMessage({ id: message.id, error: { title: refused[0], detail: refused[1] } });
  }
}

/** Take the model, the runtime's binary and the preprocessing. */
async function begin({ model, binary, preprocessing }) {
  how = preprocessing;
  headstartRuntime.env.wasm.numThreads = 1; // a page from a file may not share memory between threads
  headstartRuntime.env.wasm.wasmBinary = binary;
  session = await headstartRuntime.InferenceSession.create(model, { executionProviders: ["wasm"] });
  await ask(new Uint8Array(how.width * how.height * 3)); // the first time takes longest
  return { truly: await readsTruly() };
}

/** What the model says of a file, or of `pixels` that are fitted already. */
async function answer({ file, pixels }) {
  const started = performance.now();
  const seen = pixels ?? (await read(file));
  const said = await ask(seen);
  return { ...said, pixels: seen, milliseconds: performance.now() - started };
}

async function read(file) {
  const picture = await decoded(file);
  try {
    return fitted(picture, how);
  } finally {
    picture.close();
  }
}

async function ask(pixels) {
  const input = new headstartRuntime.Tensor("uint8", pixels, [1, how.height, how.width, 3]);
  const output = await session.run({ pixels: input });
  return { probabilities: [...output.probabilities.data], novelty: output.novelty.data[0] };
}
