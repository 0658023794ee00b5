"""Validates manifests, offline, by the schemas that kubernetes-validate has of several versions of Kubernetes.

    validate_manifests.py FILE...

Unknown keys are errors, and so is what only a cluster would say of one file's objects: two of one name, a label that is too
long, a mount without its volume, a selector that selects no pod, a StatefulSet without its service. Prints a line for each problem, and how much was valid.
Objects of the Prometheus operator are not Kubernetes' own: of these only the kind is known.
"""

import re
import sys
import warnings

import kubernetes_validate
import yaml

VERSIONS = ("1.29", "1.31", "1.34", "1.37")
OTHERS = {("monitoring.coreos.com/v1", kind) for kind in ("PodMonitor", "PrometheusRule")}
LABEL = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")


class Loader(yaml.SafeLoader):
    """Refuses a map that has a key twice, which Helm takes and others do not."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {', '.join(twice)}", node.start_mark)
        return super().construct_mapping(node, deep)


def by_schema(one, version):
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except Exception as error:  # whatever it raises, the object is not valid
        return [f"{version}: {getattr(error, 'message', error)}"]
    return []


def pods(objects):
    for one in objects:
        if one["kind"] == "Pod":
            yield one
        elif "template" in (one.get("spec") or {}):
            yield one["spec"]["template"]


def of_pod(pod, claims):
    spec = pod["spec"]
    volumes = [volume["name"] for volume in spec.get("volumes", [])] + claims
    if len(set(volumes)) != len(volumes):
        yield f"a volume twice: {volumes}"
    for container in spec.get("initContainers", []) + spec["containers"]:
        places = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(set(places)) != len(places):
            yield f"a mount twice: {places}"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{container['name']}: no volume {mount['name']}"
        ports = [port.get("name") for port in container.get("ports", [])]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in ports:
                yield f"{container['name']}: {probe}: no port {port}"


SELECTING = {"Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"}


def selector(one):
    spec = one.get("spec") or {}
    if one["kind"] == "Service":
        return spec.get("selector")
    for key in ("selector", "podSelector"):
        if "matchLabels" in (spec.get(key) or {}):
            return spec[key]["matchLabels"]
    return None


def of_all(objects):
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    for name in {name for name in names if names.count(name) > 1}:
        yield f"twice: {name}"
    found = list(pods(objects))
    for one in objects:
        place = f"{one['kind']} {one['metadata']['name']}"
        for value in one["metadata"].get("labels", {}).values():
            if not LABEL.match(value):
                yield f"{place}: the label {value!r}"
        if one["kind"] in ("StatefulSet", "Deployment") and len(one["metadata"]["name"]) > 52:
            yield f"{place}: too long for its pods' labels"
        wanted = selector(one)
        if not wanted and one["kind"] in SELECTING:
            yield f"{place}: no selector"
        service = ("Service", one["metadata"].get("namespace"), one["spec"].get("serviceName")) if one.get("spec") else None
        if one["kind"] == "StatefulSet" and service not in names:
            yield f"{place}: no service {service[2]}"
        if wanted is not None and not any(
            wanted.items() <= pod["metadata"].get("labels", {}).items() for pod in found
        ):
            yield f"{place}: selects no pod"
        if "template" in (one.get("spec") or {}) or one["kind"] == "Pod":
            claims = [claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])]
            pod = one["spec"].get("template", one)
            yield from (f"{place}: {problem}" for problem in of_pod(pod, claims))


def main(files):
    # That an API is deprecated in some version is no problem.
    warnings.simplefilter("ignore")
    problems = []
    seen = {}
    for file in files:
        with open(file, encoding="utf-8") as opened:
            try:
                objects = [one for one in yaml.load_all(opened, Loader) if one]
            except yaml.constructor.ConstructorError as error:
                problems.append(str(error).replace("\n", " "))
                continue
        if not objects:
            problems.append(f"{file}: no object")
        problems += [f"{file}: {problem}" for problem in of_all(objects)]
        for one in objects:
            if (one["apiVersion"], one["kind"]) not in OTHERS:
                seen.setdefault(yaml.dump(one), (file, one))
    for file, one in seen.values():
        for version in VERSIONS:
            place = f"{file}: {one['kind']} {one['metadata']['name']}"
            problems += [f"{place}: {problem}" for problem in by_schema(one, version)]
    for problem in problems:
        print(problem)
    print(f"{len(seen)} objects, {len(VERSIONS)} versions, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
