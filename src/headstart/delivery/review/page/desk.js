// The desk's server: its state, the queues in chunks, and decisions, which are sent one after the other.
//
// A decision is shown before it is kept. It is sent with the revision as of which this page knows the pictures; what the
// server refuses is taken back by reading everything anew. `desk.revision` only grows by our own decisions, or when all
// that is shown was read again: so a decision of somebody else that this page has not shown is never overwritten.

export const CHUNK = 100;
const PICTURE = /^[0-9a-f]{64}(\+|$)/; // the id of a picture, or of a pair
const RETRY = 1500; // milliseconds between attempts to reach a desk that has gone

export const desk = {
  state: null, // what /api/state said last
  revision: 0, // as of which all loaded items are known
  epoch: 0, // grows when they are read anew
  online: true,
  waiting: [], // calls to be sent, the first of which is under way
  queues: new Map(), // by name: { total, chunks: Map(number -> items), asked: Map(number -> promise) }
  onchange: () => {}, // items or the state have changed
  onrefused: () => {}, // (error, op): the server refused
  ondone: () => {}, // (op, answer): the server has kept it
};

let token = document.querySelector('meta[name="token"]').content;
let stale = false;
let running = false;
let reading = 0;

/** Ask the desk; with a body, by POST. Raises an error with `status`, 0 where the desk cannot be reached. */
export async function ask(path, body, isSecond = false) {
  const headers = { "content-type": "application/json", "x-headstart-token": token };
  const options = body === undefined ? {} : { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(path, options).catch(() => null);
  if (!answer) throw Object.assign(new Error("The desk cannot be reached."), { status: 0 });
  desk.online = true;
  if (answer.status === 403 && body !== undefined && !isSecond) {
    await renewToken(); // the desk was started again
    return ask(path, body, true);
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(said.error ?? `The desk answered ${answer.status}.`), { status: answer.status });
  return said;
}

async function renewToken() {
  const page = await fetch("/").then((answer) => answer.text()).catch(() => "");
  const found = new DOMParser().parseFromString(page, "text/html").querySelector('meta[name="token"]');
  if (found) token = found.content;
}

// Reading

export async function readState() {
  const state = await ask("/api/state");
  const former = desk.state;
  const isForeign = former && state.revision > desk.revision && !desk.waiting.length;
  const isTrained = former && JSON.stringify(state.last) !== JSON.stringify(former.last);
  desk.state = state;
  if (isForeign || isTrained) refresh();
  desk.onchange();
  return state;
}

/** Read the state soon; several wishes within a moment are one. */
export function readStateSoon(after = 250) {
  clearTimeout(reading);
  reading = setTimeout(async () => {
    const state = await readState().catch(() => null);
    if (state && (state.training || Object.values(state.queues).includes(null))) readStateSoon(400);
  }, after);
}

const queueKey = (queue, label) => (label ? `${queue} ${label}` : queue);

function holder(queue, label) {
  const named = queueKey(queue, label);
  if (!desk.queues.has(named)) desk.queues.set(named, { total: null, chunks: new Map(), asked: new Map() });
  return desk.queues.get(named);
}

/** The item at a place of a queue, if it is loaded. */
export function itemAt(queue, label, place) {
  return holder(queue, label).chunks.get(Math.floor(place / CHUNK))?.[place % CHUNK];
}

export const chunksOf = (queue, label) => holder(queue, label).chunks;

export const totalOf = (queue, label) => holder(queue, label).total;

/** Load the chunk that `place` lies in. */
export function load(queue, label, place) {
  const held = holder(queue, label);
  const number = Math.floor(place / CHUNK);
  if (held.chunks.has(number)) return Promise.resolve();
  if (!held.asked.has(number)) held.asked.set(number, fetchChunk(held, queue, label, number));
  return held.asked.get(number);
}

async function fetchChunk(held, queue, label, number) {
  const only = label ? `&label=${encodeURIComponent(label)}` : "";
  try {
    const said = await ask(`/api/queue/${queue}?offset=${number * CHUNK}&limit=${CHUNK}${only}`);
    held.total = said.total;
    held.chunks.set(number, said.items);
  } finally {
    held.asked.delete(number);
  }
}

function* loaded() {
  for (const held of desk.queues.values()) for (const items of held.chunks.values()) yield* items;
}

/** Everything as it stands now, after the calls under way: what is loaded is forgotten, and read again when it is shown. */
export function refresh() {
  if (!desk.waiting.some((op) => op.isRefresh)) push({ isRefresh: true });
}

export function forget() {
  desk.queues.clear();
  desk.epoch += 1;
}

// Deciding

/** What a decision about `item` is about: the pair where it has a twin and both are accepted. */
export const subject = (item, action) => (item.twin && action === "accept" ? item.twin.pair : item.id);

/** Decide about pictures: at once on the page, then on the server. */
export function decide(action, ids, value = null) {
  for (const item of loaded()) foresee(item, action, ids, value);
  push({ path: "/api/decide", body: { action, ids, ...(value === null ? {} : { value }) }, what: action, value });
  desk.onchange();
}

export const undo = () => push({ path: "/api/undo", body: {}, what: "undo" });
export const redo = () => push({ path: "/api/redo", body: {}, what: "redo" });

/** Add, rename or merge classes; the promise ends once the server has answered. */
export function changeClasses(body) {
  return new Promise((resolve, reject) => push({ path: "/api/classes", body, what: "classes", resolve, reject }));
}

function foresee(item, action, ids, value) {
  const about = ids.includes(item.id) ? item : item.twin && ids.includes(item.twin.id) ? item.twin : null;
  const isPair = item.twin && ids.includes(item.twin.pair);
  if (!about && !isPair) return;
  item.decision = item.part === "new" && action === "relabel" ? "add" : action;
  if (!about) return;
  about.decision = item.decision;
  about.excluded = action === "exclude";
  if (action === "relabel") about.label = value;
  if (action === "accept" && about.label === "") about.label = about.suggested;
}

function push(op) {
  desk.waiting.push({ ...op, base: desk.revision, epoch: desk.epoch });
  drain();
}

async function drain() {
  if (running) return;
  running = true;
  while (desk.waiting.length) {
    const op = desk.waiting[0];
    try {
      await (op.isRefresh ? readAnew() : send(op));
    } catch (error) {
      if (error.status === 0) {
        desk.online = false;
        desk.onchange();
        await new Promise((resolve) => setTimeout(resolve, RETRY));
        continue; // the same again
      }
      refused(op, error);
    }
    desk.waiting.shift();
    if (!desk.waiting.length && stale) push({ isRefresh: true });
  }
  running = false;
  readStateSoon();
  desk.onchange();
}

async function send(op) {
  const expect = op.epoch === desk.epoch ? desk.revision : op.base;
  const said = await ask(op.path, { ...op.body, expect });
  if (said.revision === expect + said.decisions.length && op.epoch === desk.epoch) desk.revision = said.revision;
  else stale = true; // somebody else has decided too
  for (const item of loaded()) settle(item, said.items ?? {});
  if (said.decisions.some((row) => row.pictures.some((one) => !PICTURE.test(one.id)))) stale = true; // about classes
  op.resolve?.(said);
  desk.ondone(op, said);
}

function refused(op, error) {
  stale = true;
  op.reject?.(error);
  if (!op.reject) desk.onrefused(error, op);
}

async function readAnew() {
  stale = false;
  const state = await ask("/api/state");
  forget();
  desk.state = state;
  desk.revision = state.revision;
  desk.onchange();
}

/** Take over what the server says of an item, its twin, or the pair. */
function settle(item, standings) {
  for (const one of [item, item.twin]) {
    const said = one && standings[one.id];
    if (said) Object.assign(one, { label: said.label, excluded: said.excluded, revision: said.revision, decision: said.decision });
  }
  if (!item.twin) return;
  const { id, pair } = item.twin;
  if (standings[pair]) item.decision = standings[pair].decision ?? item.twin.decision;
  else if (standings[id] && standings[item.id] === undefined) item.decision = standings[id].decision;
}
