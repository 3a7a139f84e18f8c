"""Which pods a resource makes and which it is about."""


def pod_templates(resource):
    """The templates of the pods that a resource makes, those of an analysis too."""
    spec = resource.get("spec", {})
    if resource["kind"] == "CronJob":
        return [spec["jobTemplate"]["spec"]["template"]]
    if resource["kind"] == "AnalysisTemplate":
        jobs = [metric["provider"]["job"] for metric in spec["metrics"] if "job" in metric["provider"]]
        return [job["spec"]["template"] for job in jobs]
    if resource["kind"] == "Rollout" or "template" not in spec:
        return []
    return [spec["template"]]


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
