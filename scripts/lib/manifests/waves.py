"""Argo CD applies one wave after the other, and waits for the hooks of each. A hook that needs something of its own wave or of a
later one therefore never starts, and the first sync never ends."""

import re

from pods import pod_templates, selector_of, selects

HOOK = "argocd.argoproj.io/hook"
WAVE = "argocd.argoproj.io/sync-wave"
REFERENCES = {
    "serviceAccountName": "ServiceAccount",
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "configMap": "ConfigMap",
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
    "secret": "Secret",
    "persistentVolumeClaim": "PersistentVolumeClaim",
}
"""Keys of a pod's specification, and the kind that each names."""


def annotations(resource):
    return resource["metadata"].get("annotations") or {}


def wave(resource):
    return int(annotations(resource).get(WAVE, 0))


def named_by(value, key=""):
    """Each (kind, name) that the specification of a pod names."""
    if key in REFERENCES:
        names = [value] if isinstance(value, str) else [value.get(k) for k in ("name", "secretName", "claimName")]
        yield from ((REFERENCES[key], name) for name in names if name)
    elif isinstance(value, dict):
        for inner, one in value.items():
            yield from named_by(one, inner)
    elif isinstance(value, list):
        for one in value:
            yield from named_by(one)


def hosts(resource):
    """The hosts of the addresses in a ConfigMap."""
    texts = resource.get("data", {}).values() if resource["kind"] == "ConfigMap" else ()
    for text in texts:
        yield from re.findall(r"//(?:[^/@\s]*@)?([a-z0-9-]+)", text)


def selects_any(selector, templates):
    return any(selects(selector, template["metadata"]["labels"]) for template in templates)


def needs(hook, resources):
    """Everything in the overlay without which the hook's pod cannot start or do its work."""
    names = {("Namespace", hook["metadata"].get("namespace"))}
    templates = pod_templates(hook)
    for template in templates:
        names |= set(named_by(template["spec"]))
    settings = [one for one in resources if (one["kind"], one["metadata"]["name"]) in names]
    servers = {("Service", host) for one in settings for host in hosts(one)}
    services = [selector_of(one) for one in resources if (one["kind"], one["metadata"]["name"]) in servers]
    for one in resources:
        if (
            (one["kind"], one["metadata"]["name"]) in names | servers
            or (one["kind"] == "NetworkPolicy" and selects_any(selector_of(one), templates))
            or any(selects_any(selector, pod_templates(one)) for selector in services)
        ):
            yield one


def late_for_hooks(resources):
    """Each (hook, resource) of which the hook is applied before the resource or together with it."""
    for hook in resources:
        if HOOK in annotations(hook):
            yield from ((hook, one) for one in needs(hook, resources) if wave(one) >= wave(hook))
