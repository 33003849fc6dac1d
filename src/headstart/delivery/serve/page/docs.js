// The description for programs, drawn from openapi.json.

import { call } from "./access.js";
import { make } from "./drawing.js";

const code = (text) => make("code", {}, text);

/** Text in which `backticks` mark code. */
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? code(part) : part));

/** Terms with what they mean, and of which kind they are. */
function listed(title, rows, kind = "") {
  const items = rows.map(([term, of, meaning]) =>
    make("div", {}, make("dt", {}, code(term), of ? make("span", { class: "kind" }, of) : null), make("dd", {}, ...prose(meaning))),
  );
  return [make("h3", {}, title), make("dl", { class: `fields ${kind}` }, ...items)];
}

function values(schema) {
  const kinds = (schema.anyOf ?? [schema]).filter((one) => one.type !== "null");
  return kinds.map((one) => one.enum?.join(", ") ?? [one.type ?? []].flat().join(" or ")).join(" or ");
}

function fields(schema, prefix = "") {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => [
    [prefix + name, values(inner), inner.description ?? ""],
    ...fields(inner.items ?? inner, `${prefix}${name}${inner.items ? "[]" : ""}.`),
  ]);
}

function path(url, method, described) {
  const name = method.toUpperCase();
  const place = make("section", { class: "card path" }, make("h2", {}, make("span", { class: "method" }, name), ` ${url}`));
  place.append(make("p", {}, ...prose(described.description ?? described.summary ?? "")));
  if (described.parameters?.length) {
    const rows = described.parameters.map((one) => [one.name, values(one.schema), one.description ?? ""]);
    place.append(...listed("Parameters", rows));
  }
  const body = described.requestBody;
  if (body) {
    const kinds = Object.keys(body.content).flatMap((one, index) => (index ? [", ", code(one)] : [code(one)]));
    place.append(make("h3", {}, "Body"), make("p", {}, ...prose(body.description), " As ", ...kinds, "."));
  }
  const good = described.responses["200"].content?.["application/json"]?.schema;
  const rows = good ? fields(good) : [];
  if (rows.length) place.append(...listed("What comes back", rows));
  if (good?.example) place.append(make("h3", {}, "For example"), make("pre", { tabindex: "0" }, JSON.stringify(good.example, null, 2)));
  const statuses = Object.entries(described.responses).map(([status, one]) => [status, "", one.description]);
  place.append(...listed("Statuses", statuses, "statuses"));
  return place;
}

const here = location.origin;
document.getElementById("examples").textContent = [
  "# one picture, or many",
  `curl -F file=@ant.jpg -F file=@bee.jpg ${here}/predict`,
  "",
  "# with a map of where the classifier looked",
  `curl -F file=@ant.jpg '${here}/predict?explain=true'`,
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
