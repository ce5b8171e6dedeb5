"""`make containers-check`: build the image, bring up docker-compose.yml's services, and see them work and stop.

PYTHONPATH=tests python -m containers.check --wheel dist/stream_classifier-0.1.0-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from compose_file import PULLED, SERVICES

from containers.commands import ROOT, CheckError, output
from containers.engine import Engine, full_name, open_engine
from containers.stack import IMAGE, Stack, wait_until
from containers.stand_ins import python_image, stand_in
from containers.topics import Topics
from stream_classifier.settings_file import load_settings

EVENTS = 100
BEGIN = time.monotonic()


def main() -> int:
    """Run the check; the exit code is 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="what is in the image; built of the sources when left out")
    wheel: Path | None = parser.parse_args().wheel
    try:
        with open_engine() as engine:
            say(f"{engine.name} answers")
            services = provide_images(engine)
            build(engine, wheel)
            see_it_start_alone(engine)
            with Stack(engine) as stack:
                stack.up(*services)
                say(f"up: {', '.join(services)}")
                look_at(stack, services)
            see_the_tests_use_it(engine)
    except CheckError as error:
        say(f"FAILED: {error}")
        return 1
    say("all is well")
    return 0


def provide_images(engine: Engine) -> list[str]:
    """Pull the images that docker-compose.yml and the Dockerfile name, or build what stands in for them.

    Returns:
        The services that can be started: Grafana cannot be where its image is not to be had, since nothing stands in.
    """
    named = {"the base": python_image(), **PULLED}
    without = set()
    for name, image in named.items():
        if engine.pull(image) or (engine.name == "docker" and engine.has(image)):
            say(f"{image} is there")
        elif engine.name == "docker":
            raise CheckError(f"{image} cannot be pulled; what stands in for it is for podman, which keeps it apart")
        elif name == "grafana":
            without.add(name)
            say(f"{image} cannot be pulled, and has no stand-in: its files are checked, and it is not started")
        else:
            stand_in(engine, image)
            say(f"{image} cannot be pulled: built a stand-in")
    return [name for name, service in SERVICES.items() if "profiles" not in service and name not in without]


def build(engine: Engine, wheel: Path | None) -> None:
    """Build the CPU image, of a wheel that there is already or of the sources."""
    given = {"WHEEL": str(wheel.resolve().relative_to(ROOT))} if wheel else {}
    engine.build(ROOT, IMAGE, "--target=cpu", PYTHON_IMAGE=full_name(python_image()), **given)
    whole, base = (
        int(engine.ask("inspect", "--format", "{{.Size}}", full_name(name))) for name in (IMAGE, python_image())
    )
    say(f"built {IMAGE} of {wheel or 'the sources'}: {(whole - base) / 1e6:.0f} MB on a base of {base / 1e6:.0f} MB")


def see_it_start_alone(engine: Engine) -> None:
    """Label a text without a network and without a place to write: the model has to be in the image."""
    confined = ("run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--no-healthcheck")
    command = ("classify", "--labels", "delivery,refund", "where is my parcel")
    answer = json.loads(engine.ask(*confined, full_name(IMAGE), *command))
    if answer["classification"]["label"] != "delivery":
        raise CheckError(f"the image alone says {answer}")
    say("labels a text without a network, on a read-only file system")


def look_at(stack: Stack, services: list[str]) -> None:
    """See labelled events, scraped metrics and a confined worker; stop it, and start it again."""
    topics = Topics(stack.kafka, load_settings(ROOT / "config" / "worker.yaml", {}))
    topics.await_labelled(EVENTS)
    say(f"{EVENTS} labelled events have come out")
    worker = stack.container("worker")
    wait_until("the worker is healthy", lambda: stack.state(worker, "Health.Status") == "healthy")
    say("the worker is healthy")
    see_it_confined(stack, worker)
    see_it_scraped(stack)
    if "grafana" in services:
        see_grafana(stack)
    see_it_drain(stack, topics, worker)
    before = sum(topics.committed().values())
    stack.up("worker")
    wait_until("a new worker goes on", lambda: sum(topics.committed().values()) > before)
    stack.compose("stop", "worker")
    see_all_settled_once(topics)
    say("a new worker went on where the old one had stopped: nothing lost, nothing twice")


def see_it_confined(stack: Stack, worker: str) -> None:
    """The worker is process 1, is not root, and can write to /tmp alone."""
    script = (
        "import os, pathlib; print(os.getuid(), pathlib.Path('/proc/1/cmdline').read_bytes().split(b'\\0')[-4:-1],"
        " [place for place in ('/', '/tmp', '/opt/stream-classifier') if os.access(place, os.W_OK)])"
    )
    found = stack.inside(worker, "python3", "-c", script)
    if found != "10001 [b'worker', b'--config', b'/etc/stream-classifier/worker.yaml'] ['/tmp']":
        raise CheckError(f"the worker is not confined as it should be: {found}")
    say("the worker is process 1, not root, and can write to /tmp alone")


def see_it_scraped(stack: Stack) -> None:
    """Prometheus has found the worker, has its metrics, and has loaded the rules that there are."""

    def ask(expression: str) -> float:
        answer = get_json(f"{stack.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        return sum(float(each["value"][1]) for each in answer["data"]["result"])

    labelled = "sum(stream_classifier_events_labelled_total)"
    wait_until("Prometheus has scraped labelled events", lambda: ask(labelled) >= EVENTS)
    if ask('up{job="stream-classifier"}') != 1:
        raise CheckError("Prometheus does not see one worker, and that up")
    files = sorted((ROOT / "config" / "prometheus").glob("*.rules.yml"))
    loaded = get_json(f"{stack.prometheus}/api/v1/rules")["data"]["groups"]
    if {Path(group["file"]).name for group in loaded} != {file.name for file in files}:
        raise CheckError(f"Prometheus has loaded the rules of {loaded}, and there are {files}")
    say(f"Prometheus has scraped {ask(labelled):.0f} labelled events, and loaded {len(files)} files of rules")


def see_grafana(stack: Stack) -> None:
    """Grafana shows every dashboard to whoever comes, and has its data source."""
    wait_until("Grafana answers", lambda: reachable(f"{stack.grafana}/api/health"))
    files = list((ROOT / "dashboards").glob("*.json"))
    wait_until(
        "Grafana has the dashboards", lambda: len(get_json(f"{stack.grafana}/api/search?type=dash-db")) == len(files)
    )
    query = {"query": "up"}
    source = f"{stack.grafana}/api/datasources/proxy/uid/prometheus/api/v1/query?{urllib.parse.urlencode(query)}"
    if get_json(source)["status"] != "success":
        raise CheckError("Grafana does not get an answer from Prometheus")
    say(f"Grafana shows {len(files)} dashboards, and reaches Prometheus")


def see_it_drain(stack: Stack, topics: Topics, worker: str) -> None:
    """Stop the worker while events go on coming: it ends with 0, and has committed all that it has labelled."""
    begin = time.monotonic()
    stack.compose("stop", "worker")
    took = time.monotonic() - begin
    if (code := stack.state(worker, "ExitCode")) != "0":
        raise CheckError(f"the worker ended with {code} when it was stopped")
    settled = see_all_settled_once(topics)
    say(f"stopped under load in {took:.1f} s with 0: {settled} inputs, each labelled or refused once, and committed")


def see_all_settled_once(topics: Topics) -> int:
    """Compare what was committed with what was written: up to there each input once, and none beyond."""
    committed = topics.committed()
    expected = Counter((partition, offset) for partition, end in committed.items() for offset in range(end))
    settled = topics.settled()
    if settled != expected:
        missing, more = expected - settled, settled - expected
        raise CheckError(f"{missing.total()} committed inputs have no result, {more.total()} results are not committed")
    return settled.total()


def see_the_tests_use_it(engine: Engine) -> None:
    """Run a test on the Kafka image of docker-compose.yml, as `--broker=testcontainers` does with all."""
    tests = ["tests/test_publish_watch.py", "-k", "byte_for_byte"]
    environment = {**engine.environment, "TESTCONTAINERS_RYUK_DISABLED": "true", "CI": "true"}
    environment.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    told = output([sys.executable, "-m", "pytest", "-q", "--broker=testcontainers", *tests], environment)
    say(f"a test on {SERVICES['kafka']['image']}: {told.splitlines()[-1]}")


def reachable(address: str) -> bool:
    """Whether somebody answers there, and with success."""
    try:
        get_json(address)
    except OSError:
        return False
    return True


def get_json(address: str) -> Any:
    """What is served there, parsed; proxies are for other machines."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=10) as answer:
        return json.load(answer)


def say(what: str) -> None:
    """Print what has been done, and when."""
    print(f"{time.monotonic() - BEGIN:6.1f} s  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
