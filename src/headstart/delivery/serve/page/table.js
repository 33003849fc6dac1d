// The answers as CSV, in the columns of `headstart predict --format csv`.

const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

export function csv(items, classes) {
  const header = ["path", "label", "probability", "set", "none_of_these", "none_of_these_score", "error"];
  const lines = [[...header, ...classes.map((one) => `p(${one})`)]];
  for (const { file, answer, error } of items) {
    if (answer) {
      const { label, probability, set, none_of_these: strange, probabilities } = answer;
      const known = [file.name, label, probability.toFixed(6), set.join("|"), strange.flag ? "yes" : "no", strange.score.toFixed(4), ""];
      lines.push([...known, ...classes.map((one) => probabilities[one].toFixed(6))]);
    } else if (error) {
      lines.push([file.name, "", "", "", "", "", `${error.title} ${error.detail}`.trim(), ...classes.map(() => "")]);
    }
  }
  return `${lines.map((cells) => cells.map(quoted).join(",")).join("\n")}\n`;
}

/** Give the person a file. */
export function save(text, fileName) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
