"""What went wrong between a client and a broker that do not trust each other, told from librdkafka's texts.

The codes alone say no more than that a connection failed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from confluent_kafka import KafkaError as ClientError


class Distrust(NamedTuple):
    """One way in which it fails.

    Attributes:
        text: A pattern that is found in librdkafka's text.
        permanent: Whether trying again cannot help. What is not may come from a broker, a load balancer or a token
            endpoint that is just being started again.
        advice: What to do.
    """

    text: str
    permanent: bool
    advice: str


_CODES = frozenset(
    {ClientError._SSL, ClientError._TRANSPORT, ClientError._AUTHENTICATION}  # noqa: SLF001 - librdkafka's names
)

# The first one that fits says it. Error codes of a token endpoint are those of RFC 6749, section 5.2.
_KNOWN = (
    Distrust(
        "certificate verify failed",
        permanent=True,
        advice="ssl.ca.location must hold the CA of the broker's certificate, and that certificate must name "
        "the host as kafka.bootstrap_servers does",
    ),
    Distrust(
        "alert (certificate required|bad certificate|unsupported certificate|unknown ca|certificate "
        "(revoked|expired|unknown))",
        permanent=True,
        advice="the broker wants a client certificate that it trusts: look at ssl.certificate.location and "
        "ssl.key.location, and until when the certificate is valid",
    ),
    Distrust(
        "wrong version number|connecting to a PLAINTEXT broker listener",
        permanent=False,
        advice="this port does not speak TLS: take the broker's TLS port, or another security.protocol",
    ),
    Distrust(
        # A broker that goes away in the middle of it.
        "SASL .*: Local: ",
        permanent=False,
        advice="the connection broke before the broker had answered: does it run?",
    ),
    Distrust(
        "Unsupported SASL mechanism",
        permanent=True,
        advice="the broker does not offer this sasl.mechanism at this port: take one that it does",
    ),
    Distrust(
        # Kafka says so, too, when it is shown a token that is about to expire for a second time within a second.
        "Request not valid in current SASL state",
        permanent=False,
        advice="this port asks for no SASL: take the broker's SASL port, or a security.protocol without SASL",
    ),
    Distrust(
        '"(invalid_(client|grant|request|scope)|unauthorized_client|unsupported_grant_type|access_denied)"',
        permanent=True,
        advice="the token endpoint refused the client: look at sasl.oauthbearer.client.id and "
        "sasl.oauthbearer.client.secret",
    ),
    Distrust(
        "invalid_token",
        permanent=False,
        advice="the broker does not accept the token: look at its audience and scope, and at the clocks",
    ),
    Distrust(
        "unexpired token",
        permanent=False,
        advice="the token endpoint gives tokens that have expired: do its clock and this machine's agree?",
    ),
    Distrust(
        "Failed to acquire SASL OAUTHBEARER token|no token available",
        permanent=False,
        advice="look at sasl.oauthbearer.token.endpoint.url, whether it answers, and at https.ca.location",
    ),
)

# Why a client cannot even be made.
_UNUSABLE = (
    (r"ssl\.key\.\w+ failed: .*(PEM lib|password|PKCS12)", "the key cannot be read: is ssl.key.password right?"),
    ("key values mismatch", "the key is not that of the certificate"),
    ("failed: .*(BIO lib|system lib)", "is the file there, and may it be read?"),
    (r"ssl\.\w+\.(location|pem).* failed|not in PEM format", "it must be PEM"),
    ("SASL mechanism", "set sasl.mechanism to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"),
)


def distrust(error: ClientError) -> Distrust | None:
    """What is known of an error between client and broker; None when it is another kind of error."""
    if error.code() not in _CODES:
        return None
    return next((known for known in _KNOWN if re.search(known.text, error.str())), None)


def why_unusable(message: str) -> str | None:
    """What to do about properties of which no client can be made, where that is known.

    Args:
        message: librdkafka's.
    """
    return next((advice for text, advice in _UNUSABLE if re.search(text, message)), None)
