"""The Helm chart, by the real Helm and the published Kubernetes schemas.

Proves: it lints strictly and renders with each of its value sets; what it renders is valid for Kubernetes 1.32; keys
and data are asked for in words; the config is mounted as a directory, so that a changed route reaches a running pod and
does not roll it; both containers are confined; `understudy check` accepts the rendered config and the examples.
"""

import copy
import pathlib
import subprocess
import sys
import tempfile

import yaml
from stage import binary, expect, proved

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/understudy"
KUBERNETES = "1.32"
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def run(*command, **options):
    """A finished command with its output."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def helm(*arguments):
    """Standard output of a helm command that must succeed."""
    done = run("helm", *map(str, arguments))
    expect(done.returncode == 0, f"helm {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def render(values, *extra):
    """{(kind, name): manifest} of the chart with the values file."""
    text = helm("template", "understudy", CHART, "-f", values, "--kube-version", KUBERNETES, *extra)
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text) if item}


def one(manifests, *kinds):
    """The only manifest of the kinds."""
    found = [item for (kind, _), item in manifests.items() if kind in kinds]
    expect(len(found) == 1, f"{len(found)} manifests of {kinds}")
    return found[0]


def check_valid(manifests, folder):
    """Each manifest of Kubernetes' own kinds fits its schema, unknown fields included."""
    path = pathlib.Path(folder, "manifests.yaml")
    path.write_text(yaml.safe_dump_all([item for (kind, _), item in manifests.items() if kind not in CUSTOM]))
    done = run("kubernetes-validate", "-k", KUBERNETES, "--strict", path)
    expect(done.returncode == 0, f"kubernetes-validate:\n{done.stdout}{done.stderr}")


def check_pod(manifests):
    """Two containers that share the spool, are confined, and see the config as a directory."""
    pod = one(manifests, "StatefulSet", "Deployment")["spec"]["template"]["spec"]
    proxy = next(c for c in pod["containers"] if c["name"] == "proxy")
    collector = next(c for c in pod["initContainers"] if c["name"] == "collector")
    expect(collector["restartPolicy"] == "Always", "the collector is no sidecar: it would end before the proxy")
    expect("--no-collect" in proxy["args"] and collector["args"][0] == "collect", "the roles are not split")
    config_volumes = {volume["name"] for volume in pod["volumes"] if "configMap" in volume}
    for container in (proxy, collector):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        expect(config_volumes <= set(mounts), f"{container['name']} does not mount the config")
        for name in config_volumes:
            expect("subPath" not in mounts[name] and not mounts[name]["mountPath"].endswith(".yaml"),
                   f"{container['name']} mounts the config as a file: it would never change")
        expect(mounts["spool"]["mountPath"] == "/var/lib/understudy", f"{container['name']} has no spool")
        expect(container["securityContext"] == SECURITY, f"{container['name']} is not confined")
        expect(container["resources"]["requests"] and container["livenessProbe"], f"{container['name']}: resources, probes")
    expect(proxy["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}, "readiness")
    ports = [port["containerPort"] for container in (proxy, collector) for port in container["ports"]]
    expect(len(ports) == len(set(ports)), "the containers of one pod need different ports")
    expect(pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], "the pod is not confined")
    config = yaml.safe_load(one(manifests, "ConfigMap")["data"]["understudy.yaml"])
    drain = int(config["timeouts"]["drain"].removesuffix("s"))
    expect(pod["terminationGracePeriodSeconds"] > drain + 30, "the grace period leaves the collector no time")


def check_config(manifests, folder):
    """The program accepts the config that the chart renders."""
    path = pathlib.Path(folder, "understudy.yaml")
    path.write_text(one(manifests, "ConfigMap")["data"]["understudy.yaml"])
    done = run(binary(), "check", path)
    expect(done.returncode == 0, f"understudy check of the rendered config:\n{done.stdout}{done.stderr}{path.read_text()}")


def check_examples(folder):
    """The program accepts the examples in deploy/, and refuses one with a slip in it, in words."""
    examples = sorted((ROOT / "deploy").glob("understudy*.yaml"))
    for example in examples:
        done = run(binary(), "check", example)
        expect(done.returncode == 0, f"understudy check {example.name}:\n{done.stdout}{done.stderr}")
    slip = pathlib.Path(folder, "slip.yaml")
    slip.write_text(examples[0].read_text() + "routs: []\n")
    done = run(binary(), "check", slip)
    expect(done.returncode != 0 and "routes" in done.stderr, f"a wrong key: exit {done.returncode}, {done.stderr!r}")


def check_reload(values):
    """Other routes and shadows change the ConfigMap and nothing else; another upstream rolls the pods."""
    before = render(values)
    for what in ['routes=[{"match":{"model":"m"},"split":{"openai":1}}]', 'config.shadow=[{"match":{"task":"*"},"to":["openai"],"sample":"1%"}]']:
        after = render(values, "--set-json", what)
        changed = {key for key in before if before[key] != after[key]}
        expect({kind for kind, _ in changed} == {"ConfigMap"}, f"{what} changes {changed}")
    other = render(values, "--set", "config.upstreams.openai.url=https://example.com")
    template = lambda manifests: one(manifests, "StatefulSet", "Deployment")["spec"]["template"]  # noqa: E731
    expect(template(other) != template(before), "a changed upstream does not roll the pods")


def check_refusals(minimal, folder):
    """What is missing or wrong is refused in words."""
    values = yaml.safe_load(minimal.read_text())
    cases = [("keys", None, "keys.existingSecret is required"), ("data", None, "data is required"),
             ("data", "./here", "data"), ("replicas", 3, "replicas"), ("config", {"upstreams": {"a": {"url": "https://a", "key": "sk"}}}, "upstreams")]
    for name, value, words in cases:
        wrong = copy.deepcopy(values)
        wrong.pop(name, None)
        if value is not None:
            wrong[name] = value
        path = pathlib.Path(folder, "wrong.yaml")
        path.write_text(yaml.safe_dump(wrong))
        done = run("helm", "template", "understudy", str(CHART), "-f", str(path))
        expect(done.returncode != 0 and words in done.stderr, f"{name}={value} was not refused with “{words}”: {done.stderr}")


def main():
    sets = sorted((CHART / "ci").glob("*.yaml"))
    helm("lint", "--strict", CHART)
    with tempfile.TemporaryDirectory() as folder:
        for values in sets:
            helm("lint", "--strict", CHART, "-f", values)
            manifests = render(values)
            check_valid(manifests, folder)
            check_pod(manifests)
            check_reload(values)
        proved(f"lints strictly and is valid for Kubernetes {KUBERNETES} with {len(sets)} value sets; containers confined")
        proved("the config is mounted as a directory; changed routes change the ConfigMap alone, other changes roll the pods")
        full = render(CHART / "ci/full-values.yaml")
        expect({"ServiceMonitor", "PrometheusRule"} <= {kind for kind, _ in full}, "monitoring objects are missing")
        rules = yaml.safe_load((ROOT / "dashboards/rules/understudy.yaml").read_text())
        expect(one(full, "PrometheusRule")["spec"] == rules, "the chart's rules are not those of dashboards/rules")
        check_refusals(CHART / "ci/minimal-values.yaml", folder)
        proved("missing data, missing keys, inline secrets and unknown values are refused in words")
        package = helm("package", CHART, "--destination", folder)
        expect("Successfully packaged" in package, package)
        proved("packages")
        if "--chart-only" in sys.argv:
            return
        for values in sets:
            check_config(render(values), folder)
        check_examples(folder)
    proved("understudy check accepts the rendered configs and the examples in deploy/")


main()
