// A real OpenID Connect provider, the certified `oidc-provider` package from npm, with one client and three accounts, on a
// free port. Prints `listening on http://127.0.0.1:PORT`, which is its issuer, and serves until it is killed.
//
// It insists on PKCE. Nobody types a password: the page that would ask is /interaction/UID, and a test opens it with
// `?account=alice` to sign in or with `?deny=1` to say no.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

function setting(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(2);
  }
  return value;
}

// The package lies in a cache outside the checkout, so a plain import would not find it.
const packages = createRequire(join(setting("OIDC_PROVIDER_NODE_DIR"), "package.json"));
const { Provider } = await import(pathToFileURL(packages.resolve("oidc-provider")));

const ACCOUNTS = {
  alice: { email: "Alice@Example.Test", email_verified: true },
  mallory: { email: "alice@example.test", email_verified: false },
  nobody: {},
};

const server = createServer();
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: setting("CLIENT_ID"),
      client_secret: setting("CLIENT_SECRET"),
      redirect_uris: [setting("REDIRECT_URI")],
      grant_types: ["authorization_code"],
      response_types: ["code"],
      token_endpoint_auth_method: process.env.CLIENT_AUTH_METHOD ?? "client_secret_basic",
    },
  ],
  clientAuthMethods: [process.env.CLIENT_AUTH_METHOD ?? "client_secret_basic"],
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  // By the letter of the standard the address comes from UserInfo only; many providers put it into the ID token too.
  conformIdTokenClaims: process.env.ADDRESS_IN_ID_TOKEN !== "1",
  cookies: { keys: ["a key of a test"] },
  features: { devInteractions: { enabled: false } },
  findAccount: (_, accountId) =>
    ACCOUNTS[accountId] && { accountId, claims: () => ({ sub: accountId, ...ACCOUNTS[accountId] }) },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  // Nobody is asked to consent.
  async loadExistingGrant(ctx) {
    const { client, session } = ctx.oidc;
    const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope("openid email");
    await grant.save();
    return grant;
  },
  pkce: { required: () => true },
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith("/interaction/")) return next();
  const { account } = ctx.query;
  const result = account
    ? { login: { accountId: account } }
    : { error: "access_denied", error_description: "they said no" };
  ctx.respond = false;
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: false });
});

server.on("request", provider.callback());
console.log(`listening on ${issuer}`);
