"""What a schema cannot say about the deployment files: python consistency.py REPOSITORY OVERLAY.yaml...

Each OVERLAY.yaml is the output of kustomize. Prints every deviation and exits 1 if there is one.
"""

import pathlib
import re
import sys

import yaml

# What the deployment files may set although it is no setting of the product: scripts/backup documents these.
BACKUP_SETTINGS = {"BACKUP_AT", "BACKUP_DIR", "BACKUP_ENCRYPTION_KEY_FILE", "BACKUP_RETENTION_DAYS"}
BACK_OFF_SECONDS = 5
USER = 10001

problems = []


def problem(where, text):
    problems.append(f"{where}: {text}")


def documented_settings(repository):
    text = (repository / "docs/configuration.md").read_text()
    return set(re.findall(r"^\| `([A-Z0-9_]+)` \|", text, re.MULTILINE))


def workspace_version(repository):
    manifest = (repository / "Cargo.toml").read_text()
    return re.search(r'\[workspace\.package\]\nversion = "(.+?)"', manifest)[1]


def check_setting(where, name, settings):
    if name not in settings and name.removesuffix("_FILE") not in settings:
        problem(where, f"{name} is no setting of docs/configuration.md")


def check_image(where, image, version):
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag or tag == "latest":
        problem(where, f"{image}: expected a pinned version")
    elif "relaypost-" in name and tag != version:
        problem(where, f"{image}: the workspace is at version {version}")


def pod_template(resource):
    spec = resource.get("spec", {})
    if resource["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template") if resource["kind"] != "Rollout" else None


def is_ours(template):
    return template["metadata"]["labels"].get("app.kubernetes.io/part-of") == "relaypost"


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


def selects(selector, labels):
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    return not selector.get("matchExpressions")


def selector_of(resource):
    """The pods of its own namespace that a resource is about, if it is about pods."""
    spec = resource.get("spec", {})
    if resource["kind"] == "Service":
        return {"matchLabels": spec["selector"]}
    if resource["kind"] == "NetworkPolicy":
        return spec["podSelector"]
    if resource["kind"] == "PodDisruptionBudget":
        return spec["selector"]
    return None


def check_overlay(path, settings, version):
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
                check_setting(where, name, settings)
            grace = int(resource["data"].get("SHUTDOWN_GRACE_SECONDS", 25))
    for resource in resources:
        template = pod_template(resource)
        if template is None:
            continue
        where = f"{overlay}: {resource['kind']} {resource['metadata']['name']}"
        templates.append(template)
        spec = template["spec"]
        context = spec.get("securityContext", {})
        if not context.get("runAsNonRoot") or spec.get("automountServiceAccountToken") is not False:
            problem(where, "expected runAsNonRoot and no token of a service account")
        for container in spec["containers"]:
            check_container(where, container, version)
            for one in container.get("env", []):
                if is_ours(template) and one["name"] not in BACKUP_SETTINGS:
                    check_setting(where, one["name"], settings)
        if is_ours(template):
            if context.get("runAsUser") != USER:
                problem(where, f"expected user {USER}, that of the image")
            if resource["kind"] == "Deployment":
                check_service_pod(where, spec, grace)
            account = spec.get("serviceAccountName")
            if ("ServiceAccount", account) not in by_name:
                problem(where, f"there is no ServiceAccount {account}")
        if resource["kind"] == "Deployment" and not selects(resource["spec"]["selector"], template["metadata"]["labels"]):
            problem(where, "its selector does not match its own pods")
    for resource in resources:
        selector = selector_of(resource)
        if selector and not any(selects(selector, one["metadata"]["labels"]) for one in templates):
            problem(f"{overlay}: {resource['kind']} {resource['metadata']['name']}", "selects no pod")
    check_references(overlay, resources, by_name)


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


def check_compose(path, settings, version):
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
                check_setting(where, setting, settings)
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
    settings = documented_settings(repository)
    version = workspace_version(repository)
    for overlay in sys.argv[2:]:
        check_overlay(pathlib.Path(overlay), settings, version)
    for path in sorted(repository.glob("compose.*.yml")):
        check_compose(path, settings, version)
    check_dockerfile(repository)
    for one in problems:
        print(one, file=sys.stderr)
    sys.exit(1 if problems else 0)


main()
