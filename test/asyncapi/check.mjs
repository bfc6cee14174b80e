// Reads AsyncAPI documents with the AsyncAPI project's own parser. Errors and warnings fail, and so does a
// document without the operations that it should have.
//
//   node check.mjs FILE...

import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const severities = ["error", "warning", "info", "hint"];
const parser = new Parser();
let bad = 0;

// JSON Schemas in draft 2020-12 are allowed by AsyncAPI, but this parser brings draft 7 only; the documents
// are written for it.
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"), { source: file });
  for (const d of diagnostics) {
    const severity = severities[d.severity] ?? d.severity;
    console.log(`${file}:${d.range.start.line + 1}: ${severity}: ${d.path.join("/")}: ${d.message} (${d.code})`);
    if (d.severity <= 1) bad++;
  }
  if (!document) {
    bad++;
    console.log(`${file}: no document`);
    continue;
  }
  const sends = document.operations().filterBySend().length;
  const receives = document.operations().filterByReceive().length;
  const schemas = document.components().schemas().all().length;
  console.log(`${file}: AsyncAPI ${document.version()}, ${document.channels().all().length} channels, ${sends} send and ${receives} receive operations, ` +
    `${document.components().messages().all().length} messages, ${schemas} schemas, ${diagnostics.length} diagnostics`);
  if (sends === 0 || receives === 0 || schemas === 0) bad++;
}
process.exit(bad ? 1 : 0);
