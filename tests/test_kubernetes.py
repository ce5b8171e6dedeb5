"""The manifests of config/kubernetes: what kustomize makes of them is valid, and means what the worker does."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from manifests import MANIFESTS, ROOT, Manifest, build, one, required_tool, validate, validate_trigger

from stream_classifier import __version__
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.cli.worker import _LEAVE_SECONDS
from stream_classifier.health import Health
from stream_classifier.metrics import Metrics
from stream_classifier.observability import ObservabilityServer
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stream_classifier.settings import Settings

BASE, GPU, KEDA = (MANIFESTS / name for name in ("base", "overlays/gpu", "overlays/keda"))
RULES = ROOT / "config" / "prometheus" / "stream-classifier.rules.yml"
ALERTS = MANIFESTS / "components" / "service-monitor" / "prometheus-rule.yaml"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
FILES = re.findall(r"<!-- test: file (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
OVERLAYS = sorted({Path(path).parent.name for path, _ in FILES})


@pytest.fixture(scope="session")
def with_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the manifests, with the files that docs/kubernetes.md shows beside them."""
    directory = tmp_path_factory.mktemp("page") / "kubernetes"
    shutil.copytree(MANIFESTS, directory)
    for path, text in FILES:
        file = directory / Path(path).relative_to("config/kubernetes")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return directory / "overlays"


@pytest.fixture(params=["base", "overlays/gpu", "overlays/keda", *(f"page/{name}" for name in OVERLAYS)])
def objects(request: pytest.FixtureRequest, with_page: Path) -> list[Manifest]:
    """What each kustomization makes, those of the page too."""
    where, _, name = str(request.param).rpartition("/")
    return build(with_page / name if where == "page" else MANIFESTS / where / name)


def workload(objects: list[Manifest]) -> Manifest:
    """What runs the workers."""
    (found,) = (each for each in objects if each["kind"] in {"Deployment", "StatefulSet"})
    return found


def pod(objects: list[Manifest]) -> Manifest:
    spec = workload(objects)["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(objects: list[Manifest]) -> Manifest:
    (found,) = pod(objects)["containers"]
    assert isinstance(found, dict)
    return found


def environment(objects: list[Manifest]) -> dict[str, str]:
    """The variables as the kubelet sets them."""
    worker = container(objects)

    def value(entry: Manifest) -> str:
        match entry.get("valueFrom"):
            case None:
                return str(entry["value"])
            case {"fieldRef": {"fieldPath": "metadata.name"}}:
                return "stream-classifier-0"
            case {"resourceFieldRef": {"containerName": "worker", "resource": "requests.cpu", "divisor": "1"}}:
                return str(worker["resources"]["requests"]["cpu"])
        raise AssertionError(entry)

    return {entry["name"]: value(entry) for entry in worker["env"]}


def settings(objects: list[Manifest], directory: Path) -> Settings:
    """What a worker reads in its pod, whose volumes are laid out below a directory."""
    mounts = {mount["name"]: directory / mount["mountPath"].lstrip("/") for mount in container(objects)["volumeMounts"]}
    assert all(mount.get("readOnly") for mount in container(objects)["volumeMounts"] if mount["name"] != "tmp")
    files: dict[Path, str] = {}
    for volume in pod(objects)["volumes"]:
        if (name := volume.get("configMap", {}).get("name")) is not None:
            (source,) = (one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == name)
            files |= {mounts[volume["name"]] / file: text for file, text in source["data"].items()}
        if "secret" in volume:
            files[mounts[volume["name"]] / "password"] = "secret-of-labeller\n"
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("/run/secrets/", f"{directory}/run/secrets/"), encoding="utf-8")
    command = container(objects)["command"]
    assert command[:3] == ["stream-classifier", "worker", "--config"]
    return load_settings(directory / command[3].lstrip("/"), environment(objects))


# Valid ----------------------------------------------------------------------------------------------------------------


def test_every_object_fits_the_schema_of_its_kind(objects: list[Manifest]) -> None:
    for each in objects:
        validate(each)
    for scaled in (each for each in objects if each["kind"] == "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            assert trigger["type"] == "kafka"
            validate_trigger(trigger["metadata"])


@pytest.mark.parametrize(
    ("directory", "kind", "path", "value"),
    [
        (BASE, "Deployment", ("spec", "template", "spec", "terminationGracePeriod"), 45),
        (BASE, "Deployment", ("spec", "replicas"), "two"),
        (BASE, "Deployment", ("spec", "template", "spec", "containers", 0, "livenessProbe", "httpGet", "port"), None),
        (BASE, "Deployment", ("spec", "template", "spec", "containers", 0, "securityContext", "privilege"), False),
        (BASE, "Deployment", ("spec", "selector"), None),
        (BASE, "PodDisruptionBudget", ("spec", "maxUnavailible"), 1),
        (BASE, "Service", ("spec", "ports", 0, "port"), "metrics"),
        (BASE, "NetworkPolicy", ("spec", "ingress", 0, "from", 0, "namespace"), "monitoring"),
        (BASE, "ConfigMap", ("data", "worker.yaml"), {"kafka": {}}),
        (KEDA, "ScaledObject", ("spec", "maxReplicas"), 12),
        (KEDA, "ScaledObject", ("spec", "scaleTargetRef"), None),
        (KEDA, "ScaledObject", ("spec", "triggers", 0, "metadata", "lagThreshold"), 10_000),
        (KEDA, "ScaledObject", ("metadata", "labels", "number"), 1),
        (KEDA, "ServiceMonitor", ("spec", "endpoints", 0, "interval"), "15 seconds"),
        (KEDA, "ServiceMonitor", ("spec", "selector", "app"), "stream-classifier"),
        (KEDA, "PrometheusRule", ("spec", "groups", 0, "rules", 0, "expression"), "up"),
        (KEDA, "PrometheusRule", ("spec", "groups", 3, "rules", 0, "for"), "2 minutes"),
        (KEDA, "PrometheusRule", ("spec", "groups", 3, "rules", 0, "expr"), None),
    ],
)
def test_an_object_that_is_not_quite_right_is_refused(
    directory: Path, kind: str, path: Sequence[str | int], value: object
) -> None:
    changed: Any = copy.deepcopy(one(build(directory), kind))
    validate(changed)
    place = changed
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(changed)


@pytest.mark.parametrize(
    ("name", "value"), [("lagThreshhold", "10"), ("offsetResetPolicy", "first"), ("lagThreshold", 10), ("topic", None)]
)
def test_a_trigger_that_keda_would_not_take_is_refused(name: str, value: object) -> None:
    metadata = dict(one(build(KEDA), "ScaledObject")["spec"]["triggers"][0]["metadata"])
    metadata[name] = value
    with pytest.raises(jsonschema.ValidationError):
        validate_trigger(metadata)


# Meant as the worker means it -----------------------------------------------------------------------------------------


def test_the_worker_takes_its_settings_and_labels(objects: list[Manifest], tmp_path: Path) -> None:
    taken = settings(objects, tmp_path)
    choose(load_label_sets(taken.labels.path), taken.labels.use)
    assert taken.observability.host == "0.0.0.0"  # noqa: S104 - that is the point
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    assert ports == {"metrics": taken.observability.port}
    assert {port["targetPort"] for port in one(objects, "Service")["spec"]["ports"]} == {"metrics"}


def test_a_worker_has_time_to_drain_and_to_leave_before_it_is_killed(objects: list[Manifest], tmp_path: Path) -> None:
    drain = settings(objects, tmp_path).shutdown.drain_seconds
    assert pod(objects)["terminationGracePeriodSeconds"] > drain + _LEAVE_SECONDS


@pytest.fixture
def pages() -> Iterator[tuple[Health, int]]:
    health = Health(time.monotonic())
    with ObservabilityServer("127.0.0.1", 0, Metrics(), health, time.monotonic) as server:
        yield health, server.port


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_only_a_loop_that_stands_still_restarts_a_worker(objects: list[Manifest], pages: tuple[Health, int]) -> None:
    worker, (health, port) = container(objects), pages
    paths = {kind: worker[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert {worker[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} == {"metrics"}

    def answers() -> dict[str, int]:
        return {kind: status(port, path) for kind, path in paths.items()}

    health.progress(time.monotonic(), 600)  # as when the model is loaded, or Kafka is away
    assert answers() == {"startup": 200, "liveness": 200, "readiness": 503}
    health.model = health.group = True
    assert answers() == {"startup": 200, "liveness": 200, "readiness": 200}
    health.progress(time.monotonic(), -1)
    assert answers() == {"startup": 503, "liveness": 503, "readiness": 200}


def test_every_selector_finds_the_workers(objects: list[Manifest]) -> None:
    spec = workload(objects)["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    selectors = [
        spec["selector"]["matchLabels"],
        one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        one(objects, "Service")["spec"]["selector"],
        *(each["labelSelector"]["matchLabels"] for each in pod(objects)["topologySpreadConstraints"]),
        *(
            term["podAffinityTerm"]["labelSelector"]["matchLabels"]
            for term in pod(objects)["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        ),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels


def test_prometheus_finds_the_service_and_scrapes_what_the_worker_serves(pages: tuple[Health, int]) -> None:
    for directory in (GPU, KEDA):
        objects = build(directory)
        service, monitor = one(objects, "Service"), one(objects, "ServiceMonitor")
        selector = monitor["spec"]["selector"]["matchLabels"]
        assert selector
        assert selector.items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert status(pages[1], endpoint["path"]) == 200


def spaced(rules: Any) -> Any:
    """Rules with expressions on one line: kustomize breaks some lines anew, which means nothing in them."""
    groups = copy.deepcopy(rules["groups"])
    for rule in (rule for group in groups for rule in group["rules"]):
        rule["expr"] = " ".join(rule["expr"].split())
    return groups


def test_the_alerts_are_those_of_prometheus() -> None:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["spec"] == rules, "make kubernetes-alerts"
    for directory in (GPU, KEDA):
        assert spaced(one(build(directory), "PrometheusRule")["spec"]) == spaced(rules)


def test_the_alerts_are_written_anew_from_those_of_prometheus(tmp_path: Path) -> None:
    committed = ALERTS.read_text(encoding="utf-8")
    written = tmp_path / "prometheus-rule.yaml"
    written.write_text(committed.partition("spec:\n")[0] + "spec:\n  groups: []\n", encoding="utf-8")
    command = [required_tool("make"), "--silent", "kubernetes-alerts", f"KUBERNETES_RULES={written}"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    assert written.read_text(encoding="utf-8") == committed


def test_streams_of_different_namespaces_are_different_jobs() -> None:
    """As the alerts and the dashboards go by the job, and names are the same in each namespace."""
    (endpoint,) = one(build(KEDA), "ServiceMonitor")["spec"]["endpoints"]
    (relabelling,) = endpoint["relabelings"]
    assert relabelling == {"sourceLabels": ["namespace", "service"], "separator": "/", "targetLabel": "job"}


def test_prometheus_gets_in_and_the_worker_gets_out_to_kafka_and_to_names(
    objects: list[Manifest], tmp_path: Path
) -> None:
    policy = one(objects, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = policy["ingress"]
    assert ingress["ports"] == [{"port": "metrics", "protocol": "TCP"}]
    open_ports = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
    kafka = [server.rpartition(":") for server in settings(objects, tmp_path).kafka.bootstrap_servers.split(",")]
    assert open_ports == {("UDP", 53), ("TCP", 53), *(("TCP", int(port)) for _, _, port in kafka)}
    namespaces = {
        peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
        for rule in policy["egress"]
        for peer in rule["to"]
    }
    # service.namespace.svc; a broker outside the cluster is let through by its address.
    assert {host.split(".")[1] for host, _, _ in kafka if host.endswith(".svc")} <= namespaces


def test_the_pods_keep_the_restricted_security_standard(objects: list[Manifest]) -> None:
    shared, own = pod(objects)["securityContext"], container(objects)["securityContext"]
    assert shared["runAsNonRoot"] is True
    assert shared["runAsUser"] == 10001  # the Dockerfile's
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod(objects))
    assert all({"configMap", "secret", "emptyDir"} & set(volume) for volume in pod(objects)["volumes"])
    assert pod(objects)["automountServiceAccountToken"] is False


def test_nodes_can_be_emptied_however_many_workers_there_are(objects: list[Manifest]) -> None:
    spec = one(objects, "PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] >= 1
    assert "minAvailable" not in spec


def test_images_are_of_this_version() -> None:
    assert container(build(BASE))["image"] == f"stream-classifier:{__version__}"
    assert container(build(GPU))["image"] == f"stream-classifier:{__version__}-gpu"


def test_the_example_labels_are_the_ones_of_the_other_examples() -> None:
    assert (MANIFESTS / "base/labels.yaml").read_bytes() == (ROOT / "config/labels/support.yaml").read_bytes()


@pytest.mark.parametrize("overlay", ["keda", "mine"])
def test_keda_reads_the_lag_of_this_group_on_this_topic(overlay: str, with_page: Path, tmp_path: Path) -> None:
    objects = build(with_page / overlay)
    taken = settings(objects, tmp_path)
    scaled = one(objects, "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    metadata = trigger["metadata"]
    assert metadata["bootstrapServers"] == taken.kafka.bootstrap_servers
    assert metadata["consumerGroup"] == taken.kafka.group_id
    assert [metadata["topic"]] == list(taken.input.topics)
    assert metadata["offsetResetPolicy"] == taken.input.start_at
    assert scaled["scaleTargetRef"]["name"] == workload(objects)["metadata"]["name"]
    assert scaled["minReplicaCount"] == 0


def test_keda_shows_kafka_the_same_credentials_as_the_workers(with_page: Path, tmp_path: Path) -> None:
    objects = build(with_page / "mine")
    client = settings(objects, tmp_path).kafka.client
    (trigger,) = one(objects, "ScaledObject")["spec"]["triggers"]
    assert (client["security.protocol"], trigger["metadata"]["tls"]) == ("SASL_SSL", "enable")
    assert (client["sasl.mechanism"], trigger["metadata"]["sasl"]) == ("SCRAM-SHA-512", "scram_sha512")
    shown = one(objects, "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == shown["metadata"]["name"]
    (secret,) = (volume["secret"]["secretName"] for volume in pod(objects)["volumes"] if "secret" in volume)
    assert {reference["name"] for reference in shown["spec"]["secretTargetRef"]} == {secret}
    keys = set(re.findall(r"--from-(?:literal|file)=([\w.]+)", PAGE))
    assert {reference["key"] for reference in shown["spec"]["secretTargetRef"]} == keys


def test_keda_starts_no_more_workers_than_there_are_partitions() -> None:
    text = (MANIFESTS / "base/worker.yaml").read_text(encoding="utf-8")
    (expected,) = re.findall(r"expected to have (\d+) partitions", text)
    (made,) = re.findall(r"topics create --partitions (\d+)", text)
    assert one(build(KEDA), "ScaledObject")["spec"]["maxReplicaCount"] == int(expected) == int(made)


def test_applying_again_does_not_undo_what_keda_scaled() -> None:
    assert workload(build(BASE))["spec"]["replicas"] == 2
    assert "replicas" not in workload(build(KEDA))["spec"]


def test_a_step_of_scaling_waits_until_the_last_one_has_settled() -> None:
    objects = build(KEDA)
    behavior = one(objects, "ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    settled = pod(objects)["terminationGracePeriodSeconds"] + workload(objects)["spec"]["minReadySeconds"]
    for direction in ("scaleUp", "scaleDown"):
        assert behavior[direction]["policies"]
        assert all(policy["periodSeconds"] >= settled for policy in behavior[direction]["policies"])


def test_a_worker_on_a_gpu_gets_one_and_takes_no_cpu_instead(tmp_path: Path) -> None:
    objects = build(GPU)
    taken = settings(objects, tmp_path)
    assert container(objects)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert [toleration["key"] for toleration in pod(objects)["tolerations"]] == ["nvidia.com/gpu"]
    assert taken.model.device == "cuda"
    assert taken.model.threads is None  # as many as a GPU is to have
    assert taken.batch.max_in_flight >= 2 * 3 * taken.batch.max_events
    # It starts when an old one has gone, as there may be no second GPU for it.
    assert workload(objects)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_worker_on_cpus_has_a_thread_for_each_core_that_it_asks_for(tmp_path: Path) -> None:
    objects = build(BASE)
    resources = container(objects)["resources"]
    assert settings(objects, tmp_path).model.threads == int(resources["requests"]["cpu"])
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" not in resources["limits"]


def test_the_example_for_exactly_once_has_names_that_stay(with_page: Path, tmp_path: Path) -> None:
    objects = build(with_page / "steady")
    taken = settings(objects, tmp_path)
    assert taken.delivery == "exactly_once"
    assert taken.kafka.instance_id == "stream-classifier-0"
    assert workload(objects)["kind"] == "StatefulSet"
    assert workload(objects)["spec"]["serviceName"] == one(objects, "Service")["metadata"]["name"]
    # A Deployment's pods never come back under their names, for which the group would wait.
    for directory in (BASE, GPU, KEDA):
        assert settings(build(directory), tmp_path / directory.name).kafka.instance_id is None
