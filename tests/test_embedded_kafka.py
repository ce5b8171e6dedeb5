"""The embedded Kafka is a real one, keeps what it is told to keep, and leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from stream_classifier.errors import EmbeddedKafkaError, UsageError
from stream_classifier.kafka.embedded import EmbeddedCluster, tool_command
from stream_classifier.kafka.embedded.aot import AotCache
from stream_classifier.kafka.embedded.directories import cache_directory, hold_temporary
from stream_classifier.kafka.embedded.java import provide_java

SECONDS = 30


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        yield cluster


@dataclass(frozen=True)
class Kept:
    """A directory in which a cluster was, which has stopped, and what was in it."""

    directory: Path
    cluster_id: str
    address: str


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    directory = tmp_path_factory.mktemp("kept") / "数据, with a comma = and more"
    with EmbeddedCluster(directory=directory) as cluster:
        write(cluster.bootstrap_servers, "tickets", "written before the stop")
        return Kept(directory, cluster.cluster_id, cluster.bootstrap_servers)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with all that the real one has, for this test alone; nothing is fetched again."""
    provide_java(print)
    own = tmp_path / "stream-classifier" / "kafka"
    shutil.copytree(cache_directory(), own, ignore=shutil.ignore_patterns("run", "*lock"), copy_function=link_or_copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return own


def link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)
    return target


def write(servers: str, topic: str, *values: str) -> None:
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, value.encode())
    assert producer.flush(SECONDS) == 0


def read(servers: str, topic: str, count: int) -> list[str]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "log_level": 0})
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        return [(message.value() or b"").decode() for message in consumer.consume(count, SECONDS)]
    finally:
        consumer.close()


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that is dead but not yet reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int]) -> list[int]:
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if is_running(pid)], timeout=SECONDS)
    return [process.pid for process in alive if is_running(process.pid)]


def test_gives_back_what_was_written(kafka: EmbeddedCluster) -> None:
    write(kafka.bootstrap_servers, "round-trip", "where is my parcel", "我的包裹还没到")

    assert read(kafka.bootstrap_servers, "round-trip", 2) == ["where is my parcel", "我的包裹还没到"]


def test_kafkas_own_console_consumer_reads_what_was_written(kafka: EmbeddedCluster) -> None:
    write(kafka.bootstrap_servers, "independent", "我要退款 🙏", "second")

    command = tool_command(
        "consumer.ConsoleConsumer",
        *("--bootstrap-server", kafka.bootstrap_servers, "--topic", "independent"),
        *("--from-beginning", "--max-messages", "2"),
    )

    assert subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout.decode() == (
        "我要退款 🙏\nsecond\n"
    )


def test_a_kept_directory_is_the_same_cluster_again(kept: Kept, tmp_path: Path) -> None:
    directory = shutil.copytree(kept.directory, tmp_path / "again")

    with EmbeddedCluster(directory=directory) as cluster:
        assert (cluster.cluster_id, cluster.bootstrap_servers) == (kept.cluster_id, kept.address)
        assert read(cluster.bootstrap_servers, "tickets", 1) == ["written before the stop"]
        with pytest.raises(UsageError, match="in use by another broker"):
            EmbeddedCluster(directory=directory).start()


def test_a_kept_directory_moves_to_another_port_if_its_own_is_taken(kept: Kept, tmp_path: Path) -> None:
    directory = shutil.copytree(kept.directory, tmp_path / "again")
    host, port = kept.address.split(":")

    with socket.create_server((host, int(port))), EmbeddedCluster(directory=directory) as cluster:
        assert cluster.bootstrap_servers != kept.address
        assert cluster.cluster_id == kept.cluster_id
        assert read(cluster.bootstrap_servers, "tickets", 1) == ["written before the stop"]


def test_a_kept_directory_of_one_broker_is_not_started_with_three(kept: Kept) -> None:
    with pytest.raises(UsageError, match="a cluster of 1, not of 3: start it with --brokers 1"):
        EmbeddedCluster(3, directory=kept.directory).start()


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("irreplaceable")

    with pytest.raises(UsageError, match="choose a new or empty directory"):
        EmbeddedCluster(directory=tmp_path).start()

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(EmbeddedKafkaError, match=f"Port {port} is taken: choose another one"):
            EmbeddedCluster(port=port).start()


def test_a_broker_that_refuses_its_settings_is_quoted_in_one_line() -> None:
    with pytest.raises(EmbeddedKafkaError, match=r"Invalid value many .*num\.io\.threads") as raised:
        EmbeddedCluster(properties={"num.io.threads": "many"}).start()

    assert "\n" not in str(raised.value)


def test_three_brokers_survive_the_loss_of_one() -> None:
    """Given a topic on three brokers, when its leader is killed, then nothing acknowledged is lost; it comes back."""
    quick_to_notice = {"broker.session.timeout.ms": "1500", "broker.heartbeat.interval.ms": "300"}
    with EmbeddedCluster(3, properties=quick_to_notice) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        admin.create_topics([NewTopic("tickets", 1)])["tickets"].result()
        write(cluster.bootstrap_servers, "tickets", "before")
        partition = admin.list_topics().topics["tickets"].partitions[0]
        assert sorted(partition.replicas) == [1, 2, 3]

        cluster.kill(partition.leader)
        write(cluster.bootstrap_servers, "tickets", "during")
        assert sorted(cluster.pids) == sorted({1, 2, 3} - {partition.leader})
        assert read(cluster.bootstrap_servers, "tickets", 2) == ["before", "during"]

        cluster.restart(partition.leader)
        write(cluster.bootstrap_servers, "tickets", "after")
        assert (sorted(cluster.pids), cluster.dead) == ([1, 2, 3], [])


OWNER = """
    import sys, threading
    from stream_classifier.kafka.embedded import EmbeddedCluster

    cluster = EmbeddedCluster()
    starter = threading.Thread(target=cluster.start)
    starter.start()
    starter.join()
    print(cluster.pids[1], cluster.bootstrap_servers, flush=True)
    sys.stdin.read()
"""


def test_a_cluster_outlives_the_thread_that_started_it_and_not_the_process(own_cache: Path) -> None:
    """Given a cluster started by a thread that is gone, it works; when its process is killed -9, its JVM is gone."""
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout
        pid, address = owner.stdout.readline().split()
        write(address, "tickets", "after the thread ended")
        assert is_running(int(pid))

        owner.kill()

        assert wait_until_gone([int(pid)]) == []
    assert len(list((own_cache / "run").iterdir())) == 1
    hold_temporary(own_cache).release()  # as the next start does
    assert list((own_cache / "run").iterdir()) == []


def test_an_aot_cache_that_the_jvm_refuses_is_thrown_away(own_cache: Path) -> None:
    """Given a damaged cache, Kafka starts all the same; the next cluster may then make a new cache."""
    aot = provide_java(print).aot_cache
    aot.path.unlink(missing_ok=True)
    aot.path.write_bytes(b"not a cache")

    with EmbeddedCluster() as cluster:
        assert [path.is_dir() for path in (own_cache / "run").iterdir()] == [True]
        pids = list(cluster.pids.values())
        write(cluster.bootstrap_servers, "tickets", "works")

    assert not aot.path.exists()
    assert wait_until_gone(pids) == []
    assert list((own_cache / "run").iterdir()) == []


def test_one_process_trains_the_aot_cache_and_the_others_start_without(tmp_path: Path) -> None:
    """Given a training whose broker was killed, nothing was recorded: no cache is made, and the next one may train."""
    cache = AotCache.keyed(tmp_path, "25.0.2")

    training = cache.train()

    assert training is not None
    assert cache.train() is None
    assert not training.finish(lambda _: pytest.fail("nothing was recorded"))
    training.end()
    following = cache.train()
    assert following is not None
    following.end()


@pytest.mark.parametrize("works", [True, False])
def test_an_aot_cache_that_cannot_be_made_is_not_tried_again(works: bool, tmp_path: Path) -> None:
    cache = AotCache.keyed(tmp_path, "25.0.2")
    training = cache.train()
    assert training is not None
    recording = Path(training.options[-1].removeprefix("-XX:AOTConfiguration="))
    recording.write_bytes(b"what a broker loaded")

    def copy(options: list[str]) -> list[str]:
        output = options[-1].removeprefix("-XX:AOTCache=")
        return ["/bin/cp", str(recording) if works else "/nowhere", output]

    assert training.finish(copy) is works
    training.end()

    assert cache.options == ([f"-XX:AOTCache={cache.path}"] if works else [])
    assert cache.train() is None
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".aot", ".lock"]


COMMAND = [sys.executable, "-m", "stream_classifier", "broker", "--port", "0"]


def start_command(*options: str) -> tuple["subprocess.Popen[str]", str, psutil.Process]:
    """Start the command, and wait for the address that it prints and for its JVM."""
    command = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout
    address = command.stdout.readline().split()[-1]
    (jvm,) = psutil.Process(command.pid).children()
    return command, address, jvm


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_broker_command_ends_well_when_it_is_asked_to(stop: signal.Signals, tmp_path: Path) -> None:
    command, address, jvm = start_command("--data", str(tmp_path / "data"))
    write(address, "tickets", "to the command's broker")

    command.send_signal(stop)
    _, said = command.communicate(timeout=SECONDS)

    assert (command.returncode, said.splitlines()[-1]) == (0, "Stopped.")
    assert not is_running(jvm.pid)


def test_the_broker_command_says_so_when_its_broker_dies() -> None:
    command, _, jvm = start_command()

    jvm.kill()
    _, said = command.communicate(timeout=SECONDS)

    assert command.returncode == 1
    assert "Broker 1 ended by itself" in said.splitlines()[-1]
