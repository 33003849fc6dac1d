// The description for programs, drawn from openapi.json.

import { call } from "./access.js";
import { make } from "./drawing.js";

const code = (text) => make("code", {}, text);

function table(of, caption, header, rows) {
  const cells = (row) => row.map((cell, index) => (index ? make("td", {}, cell) : make("th", { scope: "row" }, cell)));
  const head = make("thead", {}, make("tr", {}, ...header.map((one) => make("th", { scope: "col" }, one))));
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))));
  return make("div", { class: "table", tabindex: "0", role: "region", "aria-label": `${of}: ${caption}` }, make("table", {}, make("caption", {}, caption), head, body));
}

function values(schema) {
  const kinds = (schema.anyOf ?? [schema]).filter((one) => one.type !== "null");
  return kinds.map((one) => one.enum?.join(", ") ?? one.type ?? "").join(" or ");
}

function fields(schema, prefix = "") {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => [
    [code(prefix + name), inner.type ?? "", inner.description ?? ""],
    ...fields(inner.items ?? inner, `${prefix}${name}${inner.items ? "[]" : ""}.`),
  ]);
}

function path(url, method, described) {
  const of = `${method.toUpperCase()} ${url}`;
  const place = make("section", { class: "card path" }, make("h2", {}, make("span", { class: "method" }, method.toUpperCase()), ` ${url}`));
  place.append(make("p", {}, described.description ?? described.summary ?? ""));
  if (described.parameters?.length) {
    const rows = described.parameters.map((one) => [code(one.name), values(one.schema), one.description ?? ""]);
    place.append(table(of, "Parameters", ["Name", "Values", "Meaning"], rows));
  }
  const body = described.requestBody;
  if (body) place.append(table(of, `Body: ${body.description}`, ["Type"], Object.keys(body.content).map((one) => [code(one)])));
  const good = described.responses["200"].content?.["application/json"]?.schema;
  const rows = good ? fields(good) : [];
  if (rows.length) place.append(table(of, "What comes back", ["Field", "Type", "Meaning"], rows));
  place.append(table(of, "Statuses", ["Status", "Meaning"], Object.entries(described.responses).map(([status, one]) => [status, one.description])));
  return place;
}

const here = location.origin;
document.getElementById("examples").textContent = [
  "# one picture, or many",
  `curl -F file=@ant.jpg -F file=@bee.jpg ${here}/predict`,
  "",
  "# the bytes of one",
  `curl -H 'Content-Type: image/jpeg' --data-binary @ant.jpg ${here}/predict`,
  "",
  "# with a token",
  `curl -H 'Authorization: Bearer TOKEN' -F file=@ant.jpg ${here}/predict`,
].join("\n");

const answer = await call("/openapi.json");
const api = await answer.json();
const described = Object.entries(api.paths).flatMap(([url, methods]) => Object.entries(methods).map(([method, one]) => path(url, method, one)));
document.getElementById("paths").append(...described);
