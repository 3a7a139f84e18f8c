// Checks one webhook with the public `standardwebhooks` package from npm.
//
// Reads {"secret", "headers", "body_base64"} as JSON from standard input and prints
// `accepted` or `refused`. Exit code 2: the input could not be used.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

function unusable(reason) {
  console.error(`unusable input: ${reason}`);
  process.exit(2);
}

const folder = process.env.VERIFIER_NODE_DIR;
if (!folder) unusable("VERIFIER_NODE_DIR is not set");
// The package lies in a cache outside the checkout, so a plain import would not find it.
const { Webhook, WebhookVerificationError } = createRequire(join(folder, "package.json"))("standardwebhooks");

let webhook, headers, body;
try {
  const document = JSON.parse(readFileSync(0, "utf8"));
  webhook = new Webhook(document.secret);
  headers = Object.fromEntries(Object.entries(document.headers).map(([name, value]) => [name, String(value)]));
  if (typeof document.body_base64 !== "string") throw new Error("body_base64 is missing");
  body = Buffer.from(document.body_base64, "base64");
} catch (error) {
  unusable(error);
}

try {
  // Only the signature is in question here, not what the body says.
  webhook.verify(body, headers, { jsonParse: false });
  console.log("accepted");
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) throw error;
  console.error(error.message);
  console.log("refused");
}
