// Writes src/contract.ts from `crawlyard contract`; with --check, fails if it is out of date.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { compile } from "json-schema-to-typescript";

const FILE = new URL("../src/contract.ts", import.meta.url);
const CRAWLYARD = process.env.CRAWLYARD ?? new URL("../../../.venv/bin/crawlyard", import.meta.url).pathname;
const BANNER = `// Generated from \`crawlyard contract\` by \`npm run types\`: the payload of every task, by name. Do not edit.`;

/** Removes the titles, or every field with a title would become a type of its own. */
function withoutTitles(schema) {
  if (Array.isArray(schema)) return schema.map(withoutTitles);
  if (schema === null || typeof schema !== "object") return schema;
  const rest = Object.entries(schema).filter(
    ([key, value]) => !(key === "title" && typeof value === "string"),
  );
  // With their bounds, lists would become tuples of every length.
  return Object.fromEntries(
    rest.filter(([key]) => key !== "maxItems" && key !== "minItems").map(([key, value]) => [key, withoutTitles(value)]),
  );
}

function contract() {
  const { schemas } = JSON.parse(execFileSync(CRAWLYARD, ["contract"], { encoding: "utf8" }));
  const definitions = {};
  const properties = {};
  for (const [name, schema] of Object.entries(schemas)) {
    const { $defs = {}, $schema: _dialect, $id: _id, ...payload } = schema;
    Object.assign(definitions, $defs); // a name means the same model in all schemas
    properties[name] = payload;
  }
  const whole = {
    type: "object",
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
    $defs: definitions,
  };
  return withoutTitles(whole);
}

const text = await compile(contract(), "Contract", { bannerComment: BANNER, printWidth: 110 });
if (!process.argv.includes("--check")) {
  writeFileSync(FILE, text);
} else if (readFileSync(FILE, "utf8") !== text) {
  console.error("src/contract.ts differs from `crawlyard contract`: run `npm run types` to generate it again.");
  process.exitCode = 1;
}
