/* Classify pictures with an ONNX export in JavaScript, without headstart.

    npm install                 # in the folder of this file: onnxruntime-web and sharp, see package.json
    headstart export runs/photos --to onnx -o photos-onnx
    node with_onnx_runtime.mjs photos-onnx PICTURES...

Prints a line for each picture: path, class, probability. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-web";
import sharp from "sharp";

// A picture is {width, height, data}: RGB, three bytes a pixel, row by row.

/** The picture in a file, turned as its Exif orientation says, what is transparent laid over white. */
async function decoded(path) {
  const { data, info } = await sharp(path, { ignoreIcc: true })
    .autoOrient()
    .flatten({ background: "white" })
    .toColourspace("srgb")
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data };
}

/** The picture as the network was trained to see it: how.width x how.height. */
function fitted(picture, how) {
  const { width, height } = how;
  const whole = [0, 0, picture.width, picture.height];
  if (how.fit === "squish") return resized(picture, whole, width, height, how.interpolation); // proportions are lost
  if (how.fit === "pad") return padded(picture, whole, how); // the whole picture, with a border
  // crop: as if the short side were resized to how.resize, and the middle cut out; only the middle is computed
  const short = Math.min(picture.width, picture.height);
  const full = (side) => (side === short ? how.resize : Math.trunc((how.resize * side) / short));
  const across = picture.width / full(picture.width);
  const down = picture.height / full(picture.height);
  const left = halfToEven((full(picture.width) - width) / 2);
  const top = halfToEven((full(picture.height) - height) / 2);
  const box = [left * across, top * down, (left + width) * across, (top + height) * down];
  return resized(picture, box, width, height, how.interpolation);
}

function padded(picture, whole, how) {
  const ratio = Math.min(how.width / picture.width, how.height / picture.height);
  const width = Math.max(1, halfToEven(picture.width * ratio));
  const height = Math.max(1, halfToEven(picture.height * ratio));
  const inner = resized(picture, whole, width, height, how.interpolation);
  const left = Math.floor((how.width - width) / 2);
  const top = Math.floor((how.height - height) / 2);
  const data = new Uint8Array(how.width * how.height * 3);
  for (let i = 0; i < data.length; i++) data[i] = how.pad_colour[i % 3];
  for (let row = 0; row < height; row++) {
    const line = inner.data.subarray(row * width * 3, (row + 1) * width * 3);
    data.set(line, ((top + row) * how.width + left) * 3);
  }
  return { width: how.width, height: how.height, data };
}

// Pillow's resize: each pixel of the result is a weighted mean of the pixels under a filter that grows with the
// reduction (that is what "antialiased" means); first along the rows, then along the columns, in whole numbers.

const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weight: (x) => cubic(Math.abs(x)) },
  lanczos: { reach: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

function cubic(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The part of the picture in box = [left, top, right, bottom], resized to width x height. */
function resized(picture, [left, top, right, bottom], width, height, interpolation) {
  const across = kernels(left, right, picture.width, width, FILTERS[interpolation]);
  const down = kernels(top, bottom, picture.height, height, FILTERS[interpolation]);
  const narrow = new Uint8ClampedArray(width * picture.height * 3); // rounds and clamps what is put into it
  for (let y = down[0].first; y < down.at(-1).first + down.at(-1).weights.length; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++)
        narrow[(y * width + x) * 3 + c] = mean(picture.data, (y * picture.width + across[x].first) * 3 + c, 3, across[x]);
  const data = new Uint8ClampedArray(width * height * 3);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++)
        data[(y * width + x) * 3 + c] = mean(narrow, (down[y].first * width + x) * 3 + c, width * 3, down[y]);
  return { width, height, data };
}

/** For each of `count` pixels that share `start` to `end` of a side: its first source pixel, and the weights. */
function kernels(start, end, side, count, { reach, weight }) {
  const scale = (end - start) / count;
  const stretch = Math.max(1, scale); // the filter grows where the picture shrinks
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * stretch + 0.5));
    const last = Math.min(side, Math.trunc(centre + reach * stretch + 0.5));
    const raw = Array.from({ length: last - first }, (_, j) => weight((first + j - centre + 0.5) / stretch));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: Float64Array.from(raw, (one) => one / sum) };
  });
}

function mean(data, at, step, { weights }) {
  let sum = 0;
  for (let j = 0; j < weights.length; j++) sum += weights[j] * data[at + j * step];
  return sum;
}

/** To the nearest whole number, halves to the even one, as Python rounds. */
function halfToEven(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

const [folder, ...paths] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(await readFile(join(folder, "model.onnx")));
// onnxruntime-web does not show what a model says of itself; the same stands in export.json.
const facts = JSON.parse(await readFile(join(folder, "export.json"), "utf-8"));
const how = facts.preprocessing;
if (!(how.interpolation in FILTERS)) throw new Error(`${how.interpolation} interpolation is not written out here`);
for (const path of paths) {
  const { data } = fitted(await decoded(path), how);
  const pixels = new ort.Tensor("uint8", Uint8Array.from(data), [1, how.height, how.width, 3]);
  const { probabilities } = await session.run({ pixels });
  const row = Array.from(probabilities.data);
  const best = row.indexOf(Math.max(...row));
  console.log([path, facts.classes[best], row[best].toFixed(6)].join("\t"));
}
