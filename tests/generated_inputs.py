"""Inputs without end: valid events in several languages, byte mutations of them, and what else a topic may hold.

The same seed and number of a round give the same inputs. Each knows what must become of it, where that can be said.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Headers = list[tuple[str, Any]]

WORDS = (
    *("where", "is", "my", "parcel", "courier", "late", "money", "refund", "payment", "invoice", "account", "not"),
    *("快递", "包裹", "外卖", "退款", "退货", "密码", "账号", "我要", "太慢了", "配達", "払い戻し", "배송", "환불"),
    *("Lieferung", "Rückzahlung", "où", "remboursement", "доставка", "возврат", "شحنة", "משלוח", "ส่งของ", "पार्सल"),
    *("👍", "👩\u200d👩\u200d👧", "e\u0301", "\u200b", "\ufb01", "\u0130", "ß", "\u2028", "\x7f"),
)
LABELS = ("urgent", "not urgent", "praise", "complaint", "退款", "配送", "question", "spam", "Lob", "жалоба")
BAD_LABELS: tuple[Any, ...] = ([], "urgent", 5, {}, ["a", "a"], ["a", 1], [""], ["\u200b"], ["x" * 201], [None], True)
MEMBERS = (
    '"id":"t-1"',
    '"n":1.10',
    '"big":123456789012345678901234567890',
    '"e":-1E+2',
    '"z":-0.0',
    '"deep":{"a":[{"b":[[]]},"}"]}',
    '"brace":"}]\\\\\\""',
    '"empty":{}',
    '"\\u0000":null',
    '"名":"值"',
    '"text2":"\\ud83d\\udc4d"',
    '"f":1e308',
    '"t":true',
    '"classificatio":0',
    '"Classification":0',
    '"in":{"classification":1}',
)
ODD: tuple[tuple[bytes, str | None], ...] = (
    (b"", "not_json"),
    (b" ", "not_json"),
    (b"{}", "text_missing"),
    (b" { } ", "text_missing"),
    (b"[]", "not_an_object"),
    (b"null", "not_an_object"),
    (b'"text"', "not_an_object"),
    (b"1", "not_an_object"),
    (b'{"text":NaN}', "not_json"),
    (b'{"text":"parcel","n":NaN}', "not_json"),
    (b'{"text":"parcel","n":Infinity}', "not_json"),
    (b'{"text":"parcel","n":1e999}', "not_json"),
    (b'{"text":"parcel","n":%s}' % (b"9" * 5000), "not_json"),
    (b'{"text":"\\ud800"}', "not_json"),
    (b'{"text":"\\udc00\\ud800"}', "not_json"),
    (b'{"text":"parcel","\\ud800":1}', "not_json"),
    (b'{"text":"\xed\xa0\x80"}', "not_utf8"),
    (b'{"text":"\xc0\xaf"}', "not_utf8"),
    (b'\xef\xbb\xbf{"text":"parcel"}', "not_json"),
    (b'\xff\xfe{\x00"\x00', "not_utf8"),
    (b'{"text":"parcel",}', "not_json"),
    (b"{'text':'parcel'}", "not_json"),
    (b'{"text":"par\ncel"}', "not_json"),
    (b'{"text":"parcel"}{"text":"parcel"}', "not_json"),
    (b'{"text":"parcel","d":%s%s}' % (b"[" * 2000, b"]" * 2000), "not_json"),
    (b'{"text":"parcel","d":%s1%s}' % (b'{"a":' * 10_000, b"}" * 10_000), "not_json"),
    (b'{"text":"parcel","d":%s%s}' % (b"[" * 100, b"]" * 100), "labelled"),
    (b'{"text":"","text":"parcel"}', "labelled"),
    (b'{"text":"parcel","text":""}', "text_blank"),
    (b'{"t\\u0065xt":"parcel"}', "labelled"),
    (b'\n\t{"text" : "parcel"\r\n}\r\n \n', "labelled"),
    (b'{"text":"parcel","a":{},"b":{ } }', "labelled"),
    (b'{"text":"{}"}', "labelled"),
    (b'{"text":"\\u007f\\u0000"}', "labelled"),
)
TAKEN = ('"classification":null', '"classification":{"label":"x"}', '"cl\\u0061ssification":[]')
NO_TEXT = (("5", "text_not_a_string"), ("null", "text_not_a_string"), ('["a"]', "text_not_a_string"))
BLANK = ('""', '" "', '"\\u200b\\u3000"', '"\\n\\t"', '"\\ufeff"')
NOW_AND_THEN = (0, 0, 0, 0, 1, 1_000, 1_500_000_000_000, 1_790_000_000_123)


class Input(NamedTuple):
    """One record to publish.

    Attributes:
        key: Its key.
        value: Its value.
        headers: Its headers.
        timestamp: Milliseconds; 0 for now.
        must: What must become of it: "labelled", or a reason code; None for one or the other.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    must: str | None


def round_of_inputs(seed: int, number: int, count: int) -> list[Input]:
    """The inputs of one round; the first one begins with one of each kind that is rare."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - generates, hides nothing
    made = _Kinds(chance)
    kinds = chance.choices(list(made.shares), list(made.shares.values()), k=count)
    inputs = [_around(chance, *kind()) for kind in kinds]
    if number == 0:
        rare = [*ODD, *made.rare()]
        inputs[: len(rare)] = [_around(chance, value, must) for value, must in rare]
    return inputs[:count]


def _around(chance: random.Random, value: bytes | None, must: str | None) -> Input:
    key: bytes | None = b"key-%d" % chance.randrange(500)
    headers: Headers = []
    if chance.random() < 0.2:
        key = chance.choice((None, b"", b"\x00", chance.randbytes(12), "钥匙".encode()))
        kinds = [("a", b"1"), ("a", b"2"), ("null", None), ("empty", b""), ("名", "值".encode()), ("raw", b"\xff\x00")]
        own = [("classifier-source", b"x/0/0"), ("classifier-first-source", b"x/0/1"), ("classifier-error-code", b"y")]
        headers = chance.choices([*kinds, *own], k=chance.randrange(6))
    return Input(key, value, headers, chance.choice(NOW_AND_THEN), must)


class _Kinds:
    """Values of each kind, and how often each comes."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.shares: dict[Callable[[], tuple[bytes | None, str | None]], float] = {
            self.good: 46,
            self.mutated: 28,
            self.own_labels: 8,
            self.bad_labels: 3,
            self.odd: 5,
            self.taken: 3,
            self.no_text: 2,
            self.blank: 2,
            self.tombstone: 2,
            self.noise: 1,
            self.fails: 0.02,
            self.long: 0.02,
        }

    def event(self, text: str, *members: str) -> bytes:
        """An event with that text, written in one of many ways."""
        chance = self._chance
        parts = [f'"text":{text}', *members, *chance.sample(MEMBERS, chance.choice((0, 1, 1, 2, 4)))]
        chance.shuffle(parts)
        space = chance.choice(("", "", "", " ", "\n  "))
        tail = chance.choice(("", "", "", " ", "\n", "\r\n\t"))
        return f"{{{space}{(',' + space).join(parts)}{space}}}{tail}".encode()

    def text(self) -> str:
        """A text that is not blank, as JSON."""
        chance = self._chance
        words = chance.choices(WORDS, k=chance.randrange(1, 12))
        return json.dumps("parcel " + " ".join(words), ensure_ascii=chance.random() < 0.3)

    def good(self) -> tuple[bytes, str]:
        return self.event(self.text()), "labelled"

    def own_labels(self) -> tuple[bytes, str]:
        first = self._chance.randrange(len(LABELS) - 3)  # few different sets, as in a real stream
        labels = LABELS[first : first + self._chance.choice((1, 2, 3))]
        return self.event(self.text(), f'"labels":{json.dumps(labels)}'), "labelled"

    def bad_labels(self) -> tuple[bytes, str]:
        labels = json.dumps(self._chance.choice(BAD_LABELS))
        return self.event(self.text(), f'"labels":{labels}'), "labels_invalid"

    def odd(self) -> tuple[bytes, str | None]:
        return self._chance.choice(ODD)

    def taken(self) -> tuple[bytes, str]:
        return self.event(self.text(), self._chance.choice(TAKEN)), "field_taken"

    def no_text(self) -> tuple[bytes, str]:
        text, must = self._chance.choice(NO_TEXT)
        return self.event(text), must

    def blank(self) -> tuple[bytes, str]:
        return self.event(self._chance.choice(BLANK)), "text_blank"

    def tombstone(self) -> tuple[None, str]:
        return None, "tombstone"

    def noise(self) -> tuple[bytes, None]:
        return self._chance.randbytes(self._chance.randrange(200)), None

    def fails(self) -> tuple[bytes, str]:
        return self.event('"my parcel went boom"'), "inference_failed"

    def long(self) -> tuple[bytes, str]:
        return self.event(f'"{"parcel " * 15_000}"'), "text_too_large"

    def mutated(self) -> tuple[bytes, None]:
        """A valid event with a few of its bytes changed, cut, put in or repeated."""
        chance = self._chance
        value = bytearray(chance.choice((self.good, self.own_labels, self.taken))()[0])
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            at = chance.randrange(len(value) + 1)
            end = at + chance.choice((1, 1, 2, 8, 40))
            match chance.randrange(6):
                case 0 if at < len(value):
                    value[at] ^= 1 << chance.randrange(8)
                case 1:
                    del value[at:]
                case 2:
                    value[at:at] = chance.choice((b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\x00", b"\xff", b" "))
                case 3:
                    del value[at:end]
                case 4:
                    value[end:end] = value[at:end]
                case _:
                    value[at:at] = chance.randbytes(end - at)
        return bytes(value), None

    def rare(self) -> list[tuple[bytes | None, str | None]]:
        """One of each kind that comes seldom, or that is too large to come often."""
        large, larger = ('"more":"%s"' % ("x" * size) for size in (250_000, 1_048_200))
        return [
            self.fails(),
            self.long(),
            self.tombstone(),
            (self.event('"parcel"', large), "output_too_large"),
            (self.event('"parcel"', larger), "output_too_large"),
            *((self.event(text), must) for text, must in NO_TEXT),
            *((self.event(text), "text_blank") for text in BLANK),
            *((self.event('"parcel"', member), "field_taken") for member in TAKEN),
            *((self.event('"parcel"', f'"labels":{json.dumps(labels)}'), "labels_invalid") for labels in BAD_LABELS),
        ]
