// A decoded picture made into the network's input: the same whole numbers as Pillow's resize and the model's own fit.
//
// `how` is the preprocessing of export.json; its `columns_first` tells which Pillow the model was proved with.
//
// A picture is {width, height, rows}: rows(top, count) gives so many rows from `top` on as RGBA bytes. So a large photo
// need not stand in memory as a whole.

const STRIP = 256; // rows asked for at once
const PRECISION = 22; // bits after the point of a weight: 32, less 8 of the value, less 2 for sums beyond it

/** Python's round: of two whole numbers that are equally near, the even one. */
const halfToEven = (value) => {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
};

/** The picture as the model was trained to see it: RGB bytes, how.height x how.width x 3. */
export function fitted(picture, how) {
  const whole = [0, 0, picture.width, picture.height];
  if (how.fit === "squish") return resized(picture, whole, how.width, how.height, how);
  return how.fit === "pad" ? padded(picture, whole, how) : cropped(picture, how);
}

/** The short side resized to how.resize and the middle kept, in one step. */
function cropped(picture, how) {
  const sides = [picture.width, picture.height];
  const short = Math.min(...sides);
  const full = sides.map((side) => (side === short ? how.resize : Math.trunc((how.resize * side) / short)));
  const kept = [how.width, how.height];
  const scale = sides.map((side, axis) => side / full[axis]);
  const first = full.map((side, axis) => halfToEven((side - kept[axis]) / 2));
  const start = first.map((one, axis) => one * scale[axis]);
  const end = first.map((one, axis) => (one + kept[axis]) * scale[axis]);
  return resized(picture, [...start, ...end], how.width, how.height, how);
}

/** The whole picture inside, and the mean colour around it. */
function padded(picture, whole, how) {
  const ratio = Math.min(how.width / picture.width, how.height / picture.height);
  const width = Math.max(1, halfToEven(picture.width * ratio));
  const height = Math.max(1, halfToEven(picture.height * ratio));
  const inner = resized(picture, whole, width, height, how);
  const left = Math.floor((how.width - width) / 2);
  const top = Math.floor((how.height - height) / 2);
  const pixels = new Uint8Array(how.width * how.height * 3).map((_, place) => how.pad_colour[place % 3]);
  for (let row = 0; row < height; row += 1) {
    pixels.set(inner.subarray(row * width * 3, (row + 1) * width * 3), ((top + row) * how.width + left) * 3);
  }
  return pixels;
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weight: (x) => cubic(Math.abs(x)) },
  lanczos: { reach: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** The weights of each of `count` results along an axis of `length` pixels, of which start .. end are shown. */
function kernels(length, start, end, count, filter) {
  const from = Math.fround(start); // Pillow takes its box in single precision
  const scale = Math.fround(Math.fround(end) - from) / count;
  const wider = Math.max(scale, 1); // antialiased: the filter grows with the reduction
  const reach = filter.reach * wider;
  return Array.from({ length: count }, (_, place) => {
    const centre = from + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const inverse = 1 / wider;
    const plain = Array.from({ length: last - first }, (_, x) => filter.weight((x + first - centre + 0.5) * inverse));
    const sum = plain.reduce((one, other) => one + other, 0);
    const whole = plain.map((one) => {
      const share = (sum === 0 ? one : one / sum) * 2 ** PRECISION;
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    return { first, weights: Int32Array.from(whole) };
  });
}

/** What lies in the box [left, top, right, bottom] of the picture, as RGB bytes, height x width x 3. */
function resized(picture, [left, top, right, bottom], width, height, how) {
  const filter = FILTERS[how.interpolation];
  const across = kernels(picture.width, left, right, width, filter);
  const down = kernels(picture.height, top, bottom, height, filter);
  // From version 13 on Pillow begins with the columns where more than twice as many rows as columns are lost.
  const lost = picture.height - height;
  if (how.columns_first && lost > 0 && lost > 2 * (picture.width - width)) {
    const short = new Uint8ClampedArray(height * width * 3);
    alongRows(mixedRows(picture, down), picture.width, 3, across, short);
    return new Uint8Array(short.buffer);
  }
  const first = down[0].first;
  const last = down[height - 1].first + down[height - 1].weights.length;
  const narrow = new Uint8ClampedArray((last - first) * width * 3);
  strips(picture, first, last, (rows, from) => {
    alongRows(rows, picture.width, 4, across, narrow.subarray((from - first) * width * 3));
  });
  return alongColumns(narrow, width, first, down);
}

/** Give `take` the rows first .. last of the picture, strip by strip, each with the number of its first row. */
function strips(picture, first, last, take) {
  for (let from = first; from < last; from += STRIP) {
    take(picture.rows(from, Math.min(STRIP, last - from)), from);
  }
}

const HALF = 1 << (PRECISION - 1); // so that the cut of the bits after the point rounds

/** Each row of `step` bytes a pixel made shorter, into `into` as RGB. */
function alongRows(source, width, step, across, into) {
  let place = 0;
  for (let start = 0; start < source.length; start += width * step) {
    for (const { first, weights } of across) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      for (let tap = 0, at = start + first * step; tap < weights.length; tap += 1, at += step) {
        const weight = weights[tap];
        red += source[at] * weight;
        green += source[at + 1] * weight;
        blue += source[at + 2] * weight;
      }
      into[place] = red >> PRECISION; // the array keeps what is below 0 or above 255 inside
      into[place + 1] = green >> PRECISION;
      into[place + 2] = blue >> PRECISION;
      place += 3;
    }
  }
}

/** The rows of RGB bytes mixed, from `top` of the whole picture on. */
function alongColumns(source, width, top, down) {
  const line = width * 3;
  const pixels = new Uint8ClampedArray(down.length * line);
  down.forEach(({ first, weights }, row) => {
    for (let column = 0; column < line; column += 1) {
      let sum = HALF;
      for (let tap = 0, at = (first - top) * line + column; tap < weights.length; tap += 1, at += line) {
        sum += source[at] * weights[tap];
      }
      pixels[row * line + column] = sum >> PRECISION;
    }
  });
  return new Uint8Array(pixels.buffer);
}

/** The rows of a whole picture mixed, as RGB bytes: each strip adds its share. */
function mixedRows(picture, down) {
  const line = picture.width * 3;
  const sums = new Int32Array(down.length * line).fill(HALF);
  const end = (one) => one.first + one.weights.length;
  strips(picture, down[0].first, end(down.at(-1)), (rows, from) => {
    const until = from + rows.length / (picture.width * 4);
    down.forEach((one, row) => {
      for (let y = Math.max(from, one.first); y < Math.min(until, end(one)); y += 1) {
        const weight = one.weights[y - one.first];
        let at = (y - from) * picture.width * 4;
        for (let to = row * line; to < (row + 1) * line; to += 3, at += 4) {
          sums[to] += rows[at] * weight;
          sums[to + 1] += rows[at + 1] * weight;
          sums[to + 2] += rows[at + 2] * weight;
        }
      }
    });
  });
  return Uint8ClampedArray.from(sums, (sum) => sum >> PRECISION);
}
