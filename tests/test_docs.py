"""The pages in docs/ are true: they are built without a warning, their commands run, and what they name is there."""

from __future__ import annotations

import ast
import logging
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import orjson
import pytest
import yaml
from documented import PATIENCE, ROOT, Background, blocks, environment, run

from stream_classifier.classify.classification import Classification
from stream_classifier.events.refusal import Code
from stream_classifier.kafka.embedded import tool_command
from stream_classifier.metric_catalogue import catalogue
from stream_classifier.settings import Settings
from stream_classifier.settings_file import load_settings, setting_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker import MakeTopic, NameTopic

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *PAGES]
MAKING = DOCS / "making"
SOURCES = ROOT / "stream_classifier"
TOOLS = {"kafka-topics.sh": "TopicCommand", "kafka-consumer-groups.sh": "consumer.group.ConsumerGroupCommand"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path.read_text(encoding="utf-8"), id=path.name) for path in paths]


# The site -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of MkDocs fails."""
    directory = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)],
        cwd=ROOT,
        check=True,
        timeout=PATIENCE,
    )
    return directory


def test_every_page_is_in_the_site_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    """Given the built site, then no page takes a script, a style, a picture or a font from another host."""
    for path in PAGES:
        html = (site / path.with_suffix(".html").name).read_text(encoding="utf-8")
        taken = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?([^\"\s>]+)", html)
        assert taken
        elsewhere = [address for address in taken if re.match(r"(?:https?:)?//", address)]
        assert not elsewhere, path.name
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?(?:https?:)?//", styles)


def test_the_changelog_is_a_page_whose_links_lead_somewhere(site: Path) -> None:
    html = (site / "changelog.html").read_text(encoding="utf-8")
    assert "Keep a Changelog" in html
    links = re.findall(r'href="?([\w-]+\.html)', html)
    assert "models.html" in links
    assert all((site / link).is_file() for link in links)


def test_a_link_to_a_file_that_is_not_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(MAKING))
    import outside_links  # noqa: PLC0415 - scripts beside the pages, not a package
    from mkdocs.config.defaults import MkDocsConfig  # noqa: PLC0415 - takes as long as the whole site

    class Page:
        class file:  # noqa: N801 - as MkDocs has it
            src_uri = "index.md"

    config = MkDocsConfig(str(ROOT / "mkdocs.yml"))
    text = "[a](../Makefile) [b](../nothing.py) [c](../CHANGELOG.md#unreleased) [d](metrics.md)"
    caplog.set_level(logging.WARNING)
    shown: Any = outside_links.on_page_markdown(text, Page, config, None)  # type: ignore[arg-type]  # what it takes of a page
    assert shown == "a b [c](changelog.md#unreleased) [d](metrics.md)"
    assert "nothing.py, which is not in the repository" in caplog.text
    assert "Makefile" not in caplog.text
    config.repo_url = "https://code.example/it/"
    shown = outside_links.on_page_markdown("[a](../Makefile)", Page, config, None)  # type: ignore[arg-type]  # the same
    assert shown == "[a](https://code.example/it/blob/main/Makefile)"


# Reading it -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", named(PAGES))
def test_links_lead_somewhere(text: str) -> None:
    """Also where the pages are read as files: MkDocs does not look at what is outside of docs/."""
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in link or (DOCS / link).resolve().is_file(), link


@pytest.mark.parametrize("text", named(DOCUMENTS))
def test_metrics_that_are_named_are_there(text: str) -> None:
    known = {series for metric in catalogue() for series in (metric.name, *metric.series)}
    assert set(re.findall(r"stream_classifier_\w+", text)) - {"stream_classifier_export"} <= known  # that is a package


@pytest.mark.parametrize("text", named(DOCUMENTS))
def test_settings_that_are_named_are_there(text: str) -> None:
    sections = "|".join(name for name in setting_names() if "." not in name)
    found = set(re.findall(rf"`((?:{sections})\.[a-z_]+(?:\.[a-z_]+)?)(?=[`:])", text))
    files = {name for name in found if name.endswith((".onnx", ".onnx.data", ".yaml"))}
    assert found - files <= set(setting_names())


@pytest.mark.parametrize("text", named(DOCUMENTS))
def test_make_targets_are_there(text: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make (?:[A-Z_]+=\S+ )*([a-z][a-z-]*)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("text", named(PAGES))
def test_tests_that_are_named_are_there(text: str) -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(files.values()), re.MULTILINE))
    assert set(re.findall(r"`(?:tests/(?:chaos/)?)?(test_\w+\.py)`", text)) <= files.keys()
    assert set(re.findall(r"`(test_\w+)`", text)) <= defined


def test_nothing_is_said_to_be_installed_by_a_name_that_no_index_has() -> None:
    """The package is not on PyPI: what is told to be installed is the clone, `.`."""
    texts = [path.read_text(encoding="utf-8") for path in (*DOCUMENTS, *SOURCES.rglob("*.py"))]
    installed = [found for text in texts for found in re.findall(r"pip install(?: --\S+)* '?([^\s'`\"]*)", text)]
    assert ".[schema-registry]" in installed
    assert not [name for name in installed if name.startswith("stream")]


def test_every_reason_code_is_explained_and_no_other() -> None:
    table = page("dead-letters.md").partition("| `classifier-error-code` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(get_args(Code))


@pytest.mark.parametrize("text", named(PAGES))
def test_examples_of_settings_are_settings(text: str, tmp_path: Path) -> None:
    """A whole settings file is loaded; of a part, its keys are looked up."""
    for example in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        document = yaml.safe_load(example)
        if not document.keys() <= set(Settings.model_fields):
            continue  # a label set, say
        for section, keys in document.items():
            if isinstance(keys, dict):
                assert {f"{section}.{key}" for key in keys} <= set(setting_names())
        if document.keys() >= {"kafka", "input", "output", "dead_letter", "labels"}:
            file = tmp_path / "worker.yaml"
            file.write_text(re.sub(r"\{file: [^}]+\}", "secret", example), encoding="utf-8")  # there is no such file
            load_settings(file)


def test_headers_and_members_are_those_of_the_code_and_all_of_them() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    pages = page("events.md") + page("dead-letters.md")
    assert set(re.findall(r"`(classifier-[a-z0-9-]+)`", pages)) == set(re.findall(r'"(classifier-[a-z0-9-]+)"', code))
    table = page("events.md").partition("| member | what it holds |")[2].partition("\n\n")[0]
    whole = Classification("a", 1.0, (("a", 1.0),), "s@1", "m@0", truncated=False, decided_by="entailment")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(orjson.loads(whole.encoded))


def test_variables_of_the_page_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.findall(r"^export (STREAM_CLASSIFIER_\w+)=(\S+)$", page("configuration.md"), re.MULTILINE)
    for name, value in found:
        monkeypatch.setenv(name, value)
    (example,) = re.findall(r"```yaml\n(.*?)```", page("configuration.md"), re.DOTALL)
    file = tmp_path / "worker.yaml"
    file.write_text(example, encoding="utf-8")
    settings = load_settings(file)
    assert (settings.kafka.group_id, settings.input.topics) == ("tickets", ("tickets", "reviews"))
    assert (settings.delivery, dict(settings.kafka.client)) == ("exactly_once", {"sasl.password": "..."})


# Generated ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["configuration.md", "metrics.md", "commands.md"])
def test_what_is_written_from_the_code_is_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MAKING))
    import reference  # noqa: PLC0415 - scripts beside the pages, not a package

    text = page(name)
    assert reference.updated(text, reference.PAGES[name]()) == text, "run: python docs/making/reference.py"


@pytest.mark.parametrize("document", ["", "{begin}", "{end}", "{end}{begin}", "{begin}{end}{begin}{end}"])
def test_a_page_without_its_two_marks_is_refused(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MAKING))
    import reference  # noqa: PLC0415 - scripts beside the pages, not a package

    with pytest.raises(ValueError, match="once each"):
        reference.updated(document.format(begin=reference.BEGIN, end=reference.END), "")


@pytest.mark.parametrize("name", ["rooms", "event", "ledger", "transaction"])
def test_drawings_are_current_and_fetch_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MAKING))
    import diagrams  # noqa: PLC0415 - scripts beside the pages, not a package

    text = (DOCS / "diagrams" / f"{name}.svg").read_text(encoding="utf-8")
    assert diagrams.DRAWINGS[name]() == text, "run: python docs/making/diagrams.py"
    assert f"diagrams/{name}.svg" in page("architecture.md")
    assert not re.search(r"url\((?!#)|@import|href=|<script|<image", text)


# Messages -------------------------------------------------------------------------------------------------------------


def messages(*modules: str) -> Iterator[str]:
    """All strings in the code, or what is raised in these modules; what is filled in as an ellipsis."""
    for path in [SOURCES / module for module in modules] or sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if modules:
                if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                    continue
                if getattr(node.exc.func, "id", "") == "AssertionError":
                    continue  # a defect, if ever
                node = node.exc.args[0]  # noqa: PLW2901 - what is said
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]  # a string
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            yield " ".join(text.split())


def pattern(message: str) -> re.Pattern[str]:
    """What a message of the page looks for: an ellipsis is anything."""
    return re.compile(".*".join(re.escape(part) for part in message.split("…")))


@cache
def explained() -> tuple[str, ...]:
    rows = re.findall(r"^\| (`.*?) \| ", page("troubleshooting.md"), re.MULTILINE)
    return tuple(message for row in rows for message in re.findall(r"`([^`]+(?:`[^`|,]+`[^`|,]*)?)`", row))


def test_messages_that_are_explained_are_said() -> None:
    said = list(messages())
    assert len(explained()) > 50
    assert [message for message in explained() if not any(map(pattern(message).search, said))] == []


@pytest.mark.parametrize(
    "module",
    [
        "worker.py",
        "delivery.py",
        "refusals.py",
        "observability.py",
        "kafka/source.py",
        "kafka/starts.py",
        "kafka/topics.py",
        "kafka/transactions.py",
        "classify/batch_runner.py",
    ],
)
def test_what_ends_a_worker_is_explained(module: str) -> None:
    patterns = [pattern(message) for message in explained()]
    said = [message for message in messages(module) if len(message.replace("…", "")) > 20]
    assert [message for message in said if not any(each.search(message) for each in patterns)] == []


# Running it -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(bootstrap_servers: str, make_topic: MakeTopic, name_topic: NameTopic) -> dict[str, str]:
    """Where the commands of the pages go: the tests' broker, and topics of this test's own."""
    return {
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA__GROUP_ID": name_topic("group"),
        "INPUT__TOPICS": make_topic("events"),
        "OUTPUT__TOPIC": make_topic("labelled"),
        "DEAD_LETTER__TOPIC": make_topic("dead-letter"),
        "OBSERVABILITY__PORT": "0",
    }


def test_getting_started_gets_somebody_started(stream: dict[str, str], tmp_path: Path) -> None:
    """Given an empty directory, when the page's commands are run in their order, then all is as it says."""
    text, its_environment = page("getting-started.md"), environment(**stream)
    classify, settings, publish, dead_letters, evaluate = blocks(text, "run")
    worker_command, watch_command = blocks(text, "background")
    shown = run(classify, its_environment, tmp_path)
    assert re.findall(r'"label":"(\w+)","score":[\d.]+,"labels"', shown) == ["food", "service", "price"]
    assert "ok       kafka" in run(settings, its_environment, tmp_path)
    with ExitStack() as stack:
        worker = Background(worker_command, its_environment, tmp_path)
        stack.callback(worker.kill)
        watching = Background(watch_command, its_environment, tmp_path)
        stack.callback(watching.kill)
        watching.await_line("Ctrl-C stops")
        run(publish, its_environment, tmp_path)
        for part in ("the soup was wonderful", "等了四十分钟", "40 euros"):
            watching.await_line(part)
        assert "text_missing" in run(dead_letters, its_environment, tmp_path)
        watching.stop()
        worker.stop()
    assert "accuracy" in run(evaluate, its_environment, tmp_path)


def test_commands_of_the_page_about_dead_letters(stream: dict[str, str]) -> None:
    its_environment = environment(**stream)
    outputs = [run(block, its_environment) for block in blocks(page("dead-letters.md"), "run")]
    assert len(outputs) == 2
    assert "nothing to redrive" in outputs[1]


def test_kafkas_own_tools_do_as_the_page_says(stream: dict[str, str]) -> None:
    """Given topics with one partition and a group, then Kafka's tools take the commands of the page."""
    replaced = {
        "localhost:9092": stream["KAFKA__BOOTSTRAP_SERVERS"],
        "tickets": stream["INPUT__TOPICS"],
        "tickets.labelled": stream["OUTPUT__TOPIC"],
        "tickets.dead-letter": stream["DEAD_LETTER__TOPIC"],
        "ticket-classifier": stream["KAFKA__GROUP_ID"],
    }
    more_partitions, move_offsets = blocks(page("operations.md"), "kafka")
    lines = [*more_partitions.splitlines(), *move_offsets.splitlines()[1:]]  # the group is not there to be described
    for line in lines:
        tool, *words = shlex.split(line)
        command = tool_command(TOOLS[tool], *(replaced.get(word, word) for word in words))
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Error" not in done.stdout, line
    assert "NEW-OFFSET" in done.stdout
