"""What a schema cannot say about the deployment files: python consistency.py REPOSITORY OVERLAY.yaml...

Each OVERLAY.yaml is the output of kustomize. Prints every deviation and exits 1 if there is one.
"""

import json
import pathlib
import re
import sys

import yaml
from networks import open_to_workers, refused_by_worker, without_ipv6
from pods import pod_templates, selector_of, selects
from waves import late_for_hooks, wave

# What the deployment files may set although it is no setting of the product: scripts/backup documents these.
BACKUP_SETTINGS = {"BACKUP_AT", "BACKUP_DIR", "BACKUP_ENCRYPTION_KEY_FILE", "BACKUP_RETENTION_DAYS"}
CONFIGURATION, PROMOTION = "docs/configuration.md", "docs/promotion.md"
BACK_OFF_SECONDS = 5
USER = 10001

problems = []


def problem(where, text):
    problems.append(f"{where}: {text}")


def documented_settings(repository):
    """The settings that each document names."""
    return {
        CONFIGURATION: set(re.findall(r"^\| `([A-Z0-9_]+)` \|", (repository / CONFIGURATION).read_text(), re.MULTILINE)),
        PROMOTION: set(re.findall(r"`([A-Z0-9_]+)(?:=[^`]*)?`", (repository / PROMOTION).read_text())),
    }


def scaling_lanes(repository):
    """The lanes of GET /v1/scaling."""
    schemas = json.loads((repository / "api/openapi.json").read_text())["components"]["schemas"]
    return schemas["Lanes"]["required"]


def workspace_version(repository):
    manifest = (repository / "Cargo.toml").read_text()
    return re.search(r'\[workspace\.package\]\nversion = "(.+?)"', manifest)[1]


def check_setting(where, name, documented, document=CONFIGURATION):
    if name not in documented[document] and name.removesuffix("_FILE") not in documented[document]:
        problem(where, f"{name} is no setting of {document}")


def check_image(where, image, version):
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag or tag == "latest":
        problem(where, f"{image}: expected a pinned version")
    elif "relaypost-" in name and tag != version:
        problem(where, f"{image}: the workspace is at version {version}")


def is_ours(template):
    return any("relaypost-" in container["image"] for container in template["spec"]["containers"])


def check_container(where, container, version):
    check_image(where, container["image"], version)
    context = container.get("securityContext", {})
    if not context.get("readOnlyRootFilesystem") or context.get("allowPrivilegeEscalation") is not False:
        problem(where, "expected a read-only root and no way to more privileges")
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        problem(where, "expected all capabilities to be dropped")
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
        problem(where, "expected requests of CPU and memory and a limit of memory")


def check_service_pod(where, spec, grace):
    """A pod that serves until it is told to stop."""
    container = spec["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            problem(where, f"has no {probe}")
    pre_stop = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    expected = pre_stop + grace + BACK_OFF_SECONDS
    if spec.get("terminationGracePeriodSeconds") != expected:
        problem(where, f"terminationGracePeriodSeconds: expected {expected}, preStop + SHUTDOWN_GRACE_SECONDS + {BACK_OFF_SECONDS}")


def check_pods(where, resource, template, version):
    spec = template["spec"]
    if not spec.get("securityContext", {}).get("runAsNonRoot") or spec.get("automountServiceAccountToken") is not False:
        problem(where, "expected runAsNonRoot and no token of a service account")
    for container in spec["containers"]:
        check_container(where, container, version)
    if resource["kind"] == "Deployment" and not selects(resource["spec"]["selector"], template["metadata"]["labels"]):
        problem(where, "its selector does not match its own pods")


def check_our_pods(where, resource, template, by_name, grace, documented):
    spec = template["spec"]
    if spec["securityContext"].get("runAsUser") != USER:
        problem(where, f"expected user {USER}, that of the image")
    if resource["kind"] == "Deployment":
        check_service_pod(where, spec, grace)
    account = spec.get("serviceAccountName")
    if ("ServiceAccount", account) not in by_name:
        problem(where, f"there is no ServiceAccount {account}")
    # The pods of an analysis run the commands of docs/promotion.md, all others the product.
    document = PROMOTION if resource["kind"] == "AnalysisTemplate" else CONFIGURATION
    for container in spec["containers"]:
        for one in container.get("env", []):
            if one["name"] not in BACKUP_SETTINGS:
                check_setting(where, one["name"], documented, document)


def check_networks(where, policy, refused):
    """Both families of addresses; and the worker's own check of addresses has the same networks as its policy."""
    for peers in without_ipv6(policy):
        problem(where, f"expected networks of IPv6 beside {peers}")
    if policy["metadata"]["name"] == "worker":
        for network in open_to_workers(policy, refused):
            problem(where, f"lets workers reach {network}, which the worker refuses (shared/src/ssrf/address.rs)")


def check_overlay(path, documented, version, lanes, refused):
    resources = [one for one in yaml.safe_load_all(path.read_text()) if one]
    overlay = path.stem
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in resources}
    templates = []
    grace = None
    for resource in resources:
        where = f"{overlay}: {resource['kind']} {resource['metadata']['name']}"
        if resource["kind"] == "Secret":
            problem(where, "a secret does not belong into the tree")
        if resource["kind"] == "ConfigMap":
            for name in resource["data"]:
                check_setting(where, name, documented)
            grace = int(resource["data"].get("SHUTDOWN_GRACE_SECONDS", 25))
    for resource in resources:
        for template in pod_templates(resource):
            where = f"{overlay}: {resource['kind']} {resource['metadata']['name']}"
            templates.append(template)
            check_pods(where, resource, template, version)
            if is_ours(template):
                check_our_pods(where, resource, template, by_name, grace, documented)
    for resource in resources:
        selector = selector_of(resource)
        if selector and not any(selects(selector, one["metadata"]["labels"]) for one in templates):
            problem(f"{overlay}: {resource['kind']} {resource['metadata']['name']}", "selects no pod")
    check_references(overlay, resources, by_name)
    for resource in resources:
        if resource["kind"] == "NetworkPolicy":
            check_networks(f"{overlay}: NetworkPolicy {resource['metadata']['name']}", resource, refused)
    for hook, late in late_for_hooks(resources):
        where = f"{overlay}: {late['kind']} {late['metadata']['name']}"
        name = hook["metadata"]["name"]
        problem(where, f"wave {wave(late)}: the hook {name} of wave {wave(hook)} needs it, expected an earlier wave")
    for (kind, name), resource in by_name.items():
        if kind == "ScaledObject":
            check_lanes(f"{overlay}: {kind} {name}", resource, lanes)
        if kind == "Rollout":
            check_rollout(f"{overlay}: {kind} {name}", resource, by_name)


def check_lanes(where, scaled, lanes):
    """Work of a lane without a trigger would add no workers."""
    watched = {trigger["metadata"].get("valueLocation") for trigger in scaled["spec"]["triggers"]}
    for lane in lanes:
        if f"lanes.{lane}.due_now" not in watched:
            problem(where, f"no trigger for lanes.{lane}.due_now")


def check_rollout(where, rollout, by_name):
    """Each share of the traffic is watched for a while, the last one too, by an analysis that gets and uses all its arguments."""
    canary = rollout["spec"]["strategy"]["canary"]
    steps = [next(iter(step)) for step in canary["steps"]]
    for at, step in enumerate(steps):
        if step == "setWeight" and steps[at + 1 : at + 2] != ["pause"]:
            problem(where, f"no pause after step {at}, {canary['steps'][at]}")
    given = {one["name"] for one in canary["analysis"]["args"]}
    for one in canary["analysis"]["templates"]:
        template = by_name.get(("AnalysisTemplate", one["templateName"]))
        if template is None:
            problem(where, f"there is no AnalysisTemplate {one['templateName']}")
            continue
        declared = {argument["name"] for argument in template["spec"]["args"]}
        used = set(re.findall(r"\{\{ *args\.([\w-]+) *\}\}", str(template["spec"])))
        if not declared == used == given:
            problem(where, f"arguments given {sorted(given)}, declared {sorted(declared)}, used {sorted(used)}")


def check_references(overlay, resources, by_name):
    """Autoscalers and rollouts name what exists; addresses within the cluster name a service of this namespace."""
    namespaces = {one["metadata"]["namespace"] for one in resources if "namespace" in one["metadata"]}
    if len(namespaces) != 1:
        problem(overlay, f"expected one namespace, found {sorted(namespaces)}")
    for resource in resources:
        where = f"{overlay}: {resource['kind']} {resource['metadata']['name']}"
        spec = resource.get("spec", {})
        target = spec.get("scaleTargetRef") or spec.get("workloadRef")
        if target and (target.get("kind", "Deployment"), target["name"]) not in by_name:
            problem(where, f"there is no {target.get('kind', 'Deployment')} {target['name']}")
        for service, namespace in re.findall(r"http://([a-z-]+)\.([a-z-]+)\.svc\.cluster\.local", str(resource)):
            if ("Service", service) not in by_name or namespace not in namespaces:
                problem(where, f"there is no service {service} in namespace {namespace}")


def check_compose(path, documented, version):
    # ${NAME:-default} is what it comes to when nobody sets it.
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", path.read_text())
    compose = yaml.safe_load(text)
    for name, service in compose["services"].items():
        where = f"{path.name}: {name}"
        image = service["image"]
        is_dev_build = "build" in service
        if not is_dev_build:
            check_image(where, image, version)
        if not image.rpartition("/")[2].startswith("relaypost-"):
            continue
        for setting in service.get("environment", {}):
            if setting not in BACKUP_SETTINGS:
                check_setting(where, setting, documented)
        watched = [one["path"] for one in service.get("develop", {}).get("watch", [])]
        if "./migration/src" in watched and service["environment"].get("MIGRATE_ON_START") != "true":
            problem(where, "is built anew with a changed migration; expected MIGRATE_ON_START to apply it")
        grace = service.get("environment", {}).get("SHUTDOWN_GRACE_SECONDS")
        stop = service.get("stop_grace_period")
        if grace and stop and stop != f"{int(grace) + BACK_OFF_SECONDS}s":
            problem(where, f"stop_grace_period: expected {int(grace) + BACK_OFF_SECONDS}s, SHUTDOWN_GRACE_SECONDS + {BACK_OFF_SECONDS}")
    if "prod" in path.name:
        check_hardening(path, compose)


def check_hardening(path, compose):
    for name, service in compose["services"].items():
        where = f"{path.name}: {name}"
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
            problem(where, "expected read_only and no capabilities")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            problem(where, "expected no-new-privileges")
        if "memory" not in service.get("deploy", {}).get("resources", {}).get("limits", {}):
            problem(where, "expected a limit of memory")
        if name != "api" and "ports" in service:
            problem(where, "only the API is published")
        for setting, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|DATABASE_URL|REDIS_URL", setting) and not setting.endswith("_FILE"):
                problem(where, f"{setting} is a secret; expected {setting}_FILE, not {value!r}")


def check_dockerfile(repository):
    """cargo reads the manifest of every member of the workspace, also of those that are in no image."""
    members = re.search(r"^members = \[(.+?)\]", (repository / "Cargo.toml").read_text(), re.MULTILINE | re.DOTALL)[1]
    dockerfile = (repository / "Dockerfile").read_text()
    context = (repository / ".dockerignore").read_text().split()
    for member in re.findall(r'"(.+?)"', members):
        if not re.search(rf"^COPY {member}(/Cargo\.toml)? ", dockerfile, re.MULTILINE):
            problem("Dockerfile", f"does not copy the crate {member}")
        if f"!{member}/Cargo.toml" not in context:
            problem(".dockerignore", f"leaves out {member}/Cargo.toml")


def main():
    repository = pathlib.Path(sys.argv[1])
    documented = documented_settings(repository)
    lanes = scaling_lanes(repository)
    version = workspace_version(repository)
    refused = refused_by_worker(repository)
    for overlay in sys.argv[2:]:
        check_overlay(pathlib.Path(overlay), documented, version, lanes, refused)
    for path in sorted(repository.glob("compose.*.yml")):
        check_compose(path, documented, version)
    check_dockerfile(repository)
    for one in problems:
        print(one, file=sys.stderr)
    sys.exit(1 if problems else 0)


main()
