// Pictures on their way in: dropped (also in folders), pasted, chosen or photographed; and their thumbnails.

const SIDE = 480; // pixels of a thumbnail
const IGNORED = /^(\.|Thumbs\.db$|desktop\.ini$)/;

function inside(folder) {
  const reader = folder.createReader();
  return new Promise((resolve) => {
    const found = [];
    const more = () =>
      reader.readEntries((entries) => {
        if (!entries.length) return resolve(found);
        found.push(...entries);
        more(); // it gives at most a hundred at a time
      }, () => resolve(found));
    more();
  });
}

async function files(entry) {
  if (entry.isDirectory) {
    const entries = await inside(entry);
    entries.sort((one, other) => one.name.localeCompare(other.name));
    return (await Promise.all(entries.map(files))).flat();
  }
  const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
  return file && !IGNORED.test(file.name) ? [file] : [];
}

/** What was dropped or pasted, as files; folders are searched. */
export async function transferred(transfer) {
  // All entries must be taken before the first wait: the list is empty afterwards.
  const entries = [...transfer.items].map((one) => one.webkitGetAsEntry?.()).filter(Boolean);
  const plain = [...transfer.files];
  return entries.some((one) => one.isDirectory) ? (await Promise.all(entries.map(files))).flat() : plain;
}

/** A small copy of the picture as an address, or null where the browser cannot show such a file. */
export async function thumbnail(file) {
  try {
    const whole = await createImageBitmap(file);
    const ratio = Math.min(1, SIDE / Math.max(whole.width, whole.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(whole.width * ratio));
    canvas.height = Math.max(1, Math.round(whole.height * ratio));
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
    whole.close();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
    return URL.createObjectURL(blob);
  } catch {
    return null;
  }
}
