// Checks custom resources against the schemas of their projects: node schemas.mjs FILE... (each the output of kustomize).
// Kinds of Kubernetes itself are left to kubernetes-validate. A custom kind without a schema is an error: a new one needs
// a package here.

import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";

const PACKAGES = {
  "argoproj.io": "@kubernetes-models/argo-rollouts/argoproj.io",
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api/gateway.networking.k8s.io",
  "keda.sh": "@kubernetes-models/keda/keda.sh",
};
const OWN_GROUPS = /^$|^(apps|batch|autoscaling|policy)$|^(networking|rbac\.authorization|storage)\.k8s\.io$/;

let checked = 0;
let failed = false;
for (const file of process.argv.slice(2)) {
  for (const document of parseAllDocuments(readFileSync(file, "utf8"), { version: "1.1" })) {
    const resource = document.toJS();
    const [version, group = ""] = resource.apiVersion.split("/").reverse();
    if (OWN_GROUPS.test(group)) continue;
    const name = `${resource.kind} ${resource.metadata.name}`;
    try {
      const Model = PACKAGES[group] && (await import(`${PACKAGES[group]}/${version}`))[resource.kind];
      if (!Model) throw new Error(`there is no schema of ${resource.apiVersion}`);
      new Model(resource).validate();
      checked += 1;
    } catch (error) {
      failed = true;
      console.error(`${file}: ${name}: ${error.message}`);
    }
  }
}
console.log(`${checked} custom resources fit their schemas`);
process.exit(failed ? 1 : 0);
