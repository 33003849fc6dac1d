// A file made into pixels by the browser: upright, in the file's own colour values, over white where it is transparent.

const MOST_PIXELS = 100_000_000;

/** The picture in a file, as `fit.js` wants it, with `close` to let it go. */
export async function decoded(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" }; // the model's road knows no profiles
  const bitmap = await createImageBitmap(file, options).catch(() => null);
  if (!bitmap) throw new Refusal("This browser cannot read it.", advice(file));
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    bitmap.close();
    throw new Refusal("Too large.", `It has ${width} x ${height} pixels. A smaller copy will do.`);
  }
  return { width, height, rows: (top, count) => rowsOf(bitmap, top, count), close: () => bitmap.close() };
}

/** What is said where a picture cannot be answered. */
export class Refusal extends Error {
  constructor(title, detail) {
    super(title);
    Object.assign(this, { title, detail });
  }
}

function advice(file) {
  if (file.size === 0) return "The file is empty.";
  const known = /\.(heic|heif|tiff?|jp2|raw|dng|cr2|nef|arw)$/i.test(file.name);
  return known ? "Browsers seldom read this kind of picture. Save it as JPEG or PNG." : "It is damaged, or no picture. JPEG, PNG, WebP and GIF are read.";
}

/** Rows of the bitmap as RGBA bytes, laid over white. */
function rowsOf(bitmap, top, count) {
  const canvas = new OffscreenCanvas(bitmap.width, count);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "white";
  pen.fillRect(0, 0, bitmap.width, count);
  pen.drawImage(bitmap, 0, -top);
  return pen.getImageData(0, 0, bitmap.width, count).data;
}

/** Whether this browser lets a page read pixels as they are; some change them, against being recognised by them. */
export async function readsTruly() {
  const side = 16;
  const known = new ImageData(side, side);
  known.data.forEach((_, place) => (known.data[place] = place % 4 === 3 ? 255 : (place * 37) % 256));
  const bitmap = await createImageBitmap(known);
  const read = rowsOf(bitmap, 0, side);
  bitmap.close();
  return known.data.every((value, place) => value === read[place]);
}
