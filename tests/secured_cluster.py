"""A Kafka that is asked for credentials: one listener for each way to show them, rights by ACL, and a CA of its own."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import certificates
import pytest
import token_endpoint
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream_classifier.errors import EmbeddedKafkaError
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.kafka.embedded.node import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

# The listeners: PLAINTEXT asks for nothing, and MISNAMED has a certificate for another host. A connection of RENEWED
# has to show its credentials again every two seconds.
LISTENERS = {
    "CONTROLLER": "SASL_PLAINTEXT",
    "PLAINTEXT": "PLAINTEXT",
    "INTERNAL": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "MTLS": "SSL",
    "SASL": "SASL_SSL",
    "MISNAMED": "SSL",
    "RENEWED": "SASL_SSL",
}
KEY_PASSWORD = "secret-of-the-key-4471"  # noqa: S105 - made up for these tests
_ADMIN = "admin-secret-9923"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_OAUTH = (
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    'unsecuredLoginStringClaim_sub="broker";'
)
_ATTEMPTS = 5

Right = tuple[ResourceType, str, AclOperation]


class StreamNames(NamedTuple):
    """What one worker uses."""

    input: str
    output: str
    dead_letter: str
    group: str

    @property
    def rights(self) -> list[Right]:
        """What docs/security.md says that a worker needs."""
        return [
            (ResourceType.TOPIC, self.input, AclOperation.READ),
            (ResourceType.TOPIC, self.output, AclOperation.WRITE),
            (ResourceType.TOPIC, self.dead_letter, AclOperation.WRITE),
            (ResourceType.GROUP, self.group, AclOperation.READ),
        ]


class SecuredCluster:
    """The running cluster, and what its clients need.

    Attributes:
        directory: Holds ca.crt, rogue-ca.crt, and for each client NAME.crt and NAME.key.
        tokens: The token endpoint that its OAuth clients ask.
        passwords: The password of each user of SASL/PLAIN and SCRAM.
    """

    def __init__(self, directory: Path, ports: dict[str, int], tokens: token_endpoint.TokenEndpoint) -> None:
        self.directory = directory
        self.tokens = tokens
        self.passwords: dict[str, str] = {}
        self._ports = ports
        self.admin = AdminClient(self.all_rights)

    def address(self, listener: str) -> str:
        """Where a listener is; the certificates are for this name."""
        return f"localhost:{self._ports[listener]}"

    @property
    def all_rights(self) -> dict[str, str | int | float | bool]:
        """Properties of a client that may do everything."""
        return {
            "bootstrap.servers": f"{HOST}:{self._ports['INTERNAL']}",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "admin",
            "sasl.password": _ADMIN,
            "log_level": 0,
        }

    def add_scram_user(self, name: str, password: str) -> None:
        """Make a user, or change the password."""
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            change = UserScramCredentialUpsertion(name, ScramCredentialInfo(mechanism, 4096), password.encode())
            for done in self.admin.alter_user_scram_credentials([change]).values():
                done.result()

    def make_stream(self, partitions: int = 1) -> StreamNames:
        """Make topics of a stream's own."""
        stem = uuid.uuid4().hex[:8]
        names = StreamNames(f"tickets-{stem}", f"labelled-{stem}", f"dead-{stem}", f"group-{stem}")
        made = self.admin.create_topics([NewTopic(name, partitions, 1) for name in names[:3]])
        for future in made.values():
            future.result()
        return names

    @property
    def admin_properties(self) -> str:
        """The same for Kafka's own tools."""
        login = f'{_PLAIN} username="admin" password="{_ADMIN}";'
        return f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={login}\n"

    def allow(self, principal: str, rights: Iterable[Right]) -> None:
        """Give rights, and wait until the broker knows of them."""
        bindings = _bindings(principal, rights)
        for given in self.admin.create_acls(bindings).values():
            given.result()
        self._await(lambda known: set(bindings) <= known)

    def forbid(self, principal: str, rights: Iterable[Right]) -> None:
        """Take rights away, and wait until the broker knows of it."""
        bindings = _bindings(principal, rights)
        filters = [
            AclBindingFilter(
                binding.restype,
                binding.name,
                binding.resource_pattern_type,
                binding.principal,
                binding.host,
                binding.operation,
                binding.permission_type,
            )
            for binding in bindings
        ]
        for taken in self.admin.delete_acls(filters).values():
            taken.result()
        self._await(lambda known: not set(bindings) & known)

    def _await(self, condition: Callable[[set[AclBinding]], bool]) -> None:
        anything: Any = None
        every = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            anything,
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        deadline = time.monotonic() + 30
        while not condition(set(self.admin.describe_acls(every).result())):
            assert time.monotonic() < deadline, "the broker does not know of the rights"
            time.sleep(0.01)


def _bindings(principal: str, rights: Iterable[Right]) -> list[AclBinding]:
    return [
        AclBinding(
            kind, name, ResourcePatternType.LITERAL, f"User:{principal}", "*", operation, AclPermissionType.ALLOW
        )
        for kind, name, operation in rights
    ]


def _properties(ports: dict[str, int], directory: Path, users: dict[str, str]) -> dict[str, str]:
    """The broker's settings."""
    listeners = {name: f"{name}://{HOST}:{port}" for name, port in ports.items()}
    advertised = {name: f"{name}://localhost:{port}" for name, port in ports.items() if name != "CONTROLLER"}
    broker = f'{_PLAIN} username="admin" password="{_ADMIN}" user_admin="{_ADMIN}";'
    known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    properties = {
        "listeners": ",".join(listeners.values()),
        "advertised.listeners": ",".join(advertised.values()),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in LISTENERS.items()),
        "controller.quorum.voters": f"1@{HOST}:{ports['CONTROLLER']}",
        "inter.broker.listener.name": "INTERNAL",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": broker,
        "listener.name.internal.plain.sasl.jaas.config": broker,
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.plain.sasl.jaas.config": f"{_PLAIN} {known};",
        "listener.name.sasl.oauthbearer.sasl.jaas.config": _OAUTH,
        "listener.name.renewed.sasl.enabled.mechanisms": "SCRAM-SHA-256,OAUTHBEARER",
        "listener.name.renewed.oauthbearer.sasl.jaas.config": _OAUTH,
        "listener.name.renewed.connections.max.reauth.ms": "2000",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(directory / "ca.crt"),
        "listener.name.misnamed.ssl.keystore.type": "PEM",
        "listener.name.misnamed.ssl.keystore.location": str(directory / "misnamed.pem"),
        "listener.name.mtls.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin",
    }
    for listener, mechanism in (("sasl", 256), ("sasl", 512), ("renewed", 256)):
        properties[f"listener.name.{listener}.scram-sha-{mechanism}.sasl.jaas.config"] = _SCRAM
    return properties


def _write_certificates(directory: Path, clients: Iterable[str]) -> None:
    authority, rogue = certificates.Authority("the tests' CA"), certificates.Authority("a rogue CA")
    (directory / "ca.crt").write_bytes(authority.certificate)
    (directory / "rogue-ca.crt").write_bytes(rogue.certificate)
    certificates.write(directory, "broker", authority.issue("broker", "localhost", HOST))
    certificates.write(directory, "misnamed", authority.issue("misnamed", "kafka.example"))
    certificates.write(directory, "mallory", rogue.issue("mallory"))
    for name in clients:
        certificates.write(directory, name, authority.issue(name, password=KEY_PASSWORD))


@contextlib.contextmanager
def secured_cluster(directory: Path, *, users: dict[str, str], clients: Iterable[str]) -> Iterator[SecuredCluster]:
    """A cluster of one broker, while the context is entered.

    Args:
        directory: For certificates.
        users: Name and password of each user: of SASL/PLAIN, of SCRAM, and of the token endpoint.
        clients: Common names of client certificates; their keys are encrypted with `KEY_PASSWORD`.
    """
    _write_certificates(directory, clients)
    with contextlib.ExitStack() as stack:
        ports = _start(stack, directory, users)
        tokens = stack.enter_context(token_endpoint.serving(directory / "broker.pem", users))
        secured = SecuredCluster(directory, ports, tokens)
        secured.passwords.update(users)
        for name, password in users.items():
            secured.add_scram_user(name, password)
        yield secured


def _start(stack: contextlib.ExitStack, directory: Path, users: dict[str, str]) -> dict[str, int]:
    for attempt in range(1, _ATTEMPTS + 1):  # somebody may take a port before the broker can
        pairs = [port for pair in free_ports((len(LISTENERS) + 1) // 2) for port in pair]
        ports = dict(zip(LISTENERS, pairs, strict=False))
        cluster = EmbeddedCluster(port=ports["PLAINTEXT"], properties=_properties(ports, directory, users))
        try:
            stack.enter_context(cluster)
        except EmbeddedKafkaError as error:
            if "in use" in str(error) and attempt < _ATTEMPTS:
                continue
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"NO REAL KAFKA: {error}")
        return ports
    raise AssertionError("never reached")
