"""The producing side in transactions: results, dead letters and offsets become visible together, or not at all.

Theory of operation. What has to wait for a broker is done aside, in a thread of its own, while the worker's thread goes
on polling and handing out windows.

    STARTING   -> READY        init_transactions: whatever an earlier life of this worker left open is ended
    READY      -> OPEN         with the first record
    OPEN       -> COMMITTING   send_offsets_to_transaction and commit_transaction are under way
    COMMITTING -> READY        the records count as acknowledged now, and not a moment earlier
    COMMITTING -> OPEN         the offsets could not be sent, and can be sent again
    OPEN, COMMITTING -> FAILED it has to be aborted: `recover` does, and all its records are to be sent again
    any        -> GONE         the client is of no use any more (fenced, fatal): `recover` builds another one

Every error of the client says what it asks for: to try again (retriable), to abort, or to give the client up (fatal).
A commit that ended with an error may have gone through all the same. Then the group's committed offsets tell, since
they are part of the transaction.

The calls have no time limit of their own: a commit that is cut short and resumed can end the process in librdkafka
2.15 (the answer is taken for that of an abort when the resumed call runs out of time before it has begun). They end by
the transaction's. Those that do not, because the client has forgotten them, are abandoned together with the client.

Owned by one thread.
"""

from __future__ import annotations

import enum
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from stream_classifier.errors import KafkaError
from stream_classifier.kafka.aside import Aside
from stream_classifier.kafka.clients import (
    build,
    failure,
    is_hopeless,
    producer_properties,
    transactional_properties,
)
from stream_classifier.kafka.sink import ANY_PARTITION, REFUSALS, Reports, take_refusal
from stream_classifier.kafka.transaction_calls import AGAIN_SECONDS, abort, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stream_classifier.events.outgoing import Outgoing, TopicLimits
    from stream_classifier.events.refusal import Code
    from stream_classifier.ledger import Partition
    from stream_classifier.settings import KafkaSettings

TokenT = TypeVar("TokenT")

_START_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
_LATE_SECONDS = 5.0  # after a transaction's time is up, for its calls to come back
_BUILD_SECONDS = 1.0  # before another client is built
_FENCED = frozenset({ClientError._FENCED, ClientError.PRODUCER_FENCED, ClientError.INVALID_PRODUCER_EPOCH})  # noqa: SLF001 - librdkafka's name


class _State(enum.Enum):
    STARTING = enum.auto()
    READY = enum.auto()
    OPEN = enum.auto()
    COMMITTING = enum.auto()
    FAILED = enum.auto()
    GONE = enum.auto()


class TransactionalSink(Generic[TokenT]):
    """The worker's producer for `delivery: exactly_once`.

    Attributes:
        errors: Names of errors that the client mends by itself, since they were last asked for.
        broken: Whether `recover` has to be called before anything else can be sent.
        unconfirmed: Whether this worker may have been replaced by another one of its name. `recover` waits until
            somebody who has asked the group sets this to False.
        committed: Offsets of transactions that went through since they were last asked for.

    Args:
        kafka: Where Kafka is.
        limits: What the topics that are written to refuse.
        has_committed: Tells whether the group has these offsets; None when it cannot be told now.
        clock: Seconds; only differences matter.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        limits: Iterable[TopicLimits],
        has_committed: Callable[[Mapping[Partition, int]], bool | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        sizes = [limit.max_bytes for limit in limits]
        self.errors: list[str] = []
        self.broken = False
        self.unconfirmed = False
        self.committed: dict[Partition, int] = {}
        self._has_committed = has_committed
        self._clock = clock
        self._named = kafka.instance_id is not None
        # Without a name nobody can take this worker's place, so nobody has to be able to fence it.
        name = f"{kafka.group_id}-{kafka.instance_id or uuid.uuid4().hex}"
        self._properties = transactional_properties(
            producer_properties(kafka, largest=max(sizes), smallest=min(sizes)), name
        )
        self._timeout = int(self._properties["transaction.timeout.ms"]) / 1000
        self._patience = int(self._properties.get("topic.metadata.propagation.max.ms", 30_000)) / 1000
        self._missing_since: float | None = None  # a topic that is written
        self._delivered = self._on_delivery  # bound once, not for every record
        self._tokens: list[TokenT] = []
        self._acknowledged: list[TokenT] = []
        self._refused: list[tuple[TokenT, Code]] = []
        self._undelivered: list[TokenT] = []
        self._late: set[str] = set()  # topics of records that the client gave up
        self._offsets: dict[Partition, int] = {}
        self._in_doubt = False
        self._doomed = False  # it is not to become OPEN again
        self._told = False  # the broker may have its offsets
        self._number = 0
        self._began = 0.0
        self._build_at = self._call_until = 0.0
        self._sent: list[bool] = []  # whether the offsets are in
        self._permanent: KafkaError | None = None
        self._state = _State.STARTING
        self._aside = Aside("transactions")
        self._producer = self._build()

    def _build(self) -> Producer:
        return build(Producer, {**self._properties, "error_cb": self._on_error})

    @property
    def records(self) -> int:
        """Records of the open transaction."""
        return len(self._tokens)

    @property
    def ready(self) -> bool:
        """Whether records can be sent."""
        return self._state in {_State.READY, _State.OPEN}

    @property
    def in_doubt(self) -> bool:
        """Whether it is not known if a transaction went through."""
        return self._in_doubt

    @property
    def settled(self) -> bool:
        """Whether no offsets are on their way in a transaction."""
        untold = self._state in {_State.STARTING, _State.READY} or (self._state is _State.OPEN and not self._told)
        return untold and not self._in_doubt

    def start(self) -> None:
        """End what an earlier life of this worker left open.

        Raises:
            KafkaError: The transaction coordinator refuses, or did not answer.
        """
        end = self._clock() + _START_SECONDS
        while self._state is not _State.READY:
            self._advance(AGAIN_SECONDS)
            self._serve(0)
            self._raise_permanent()
            if self._state is _State.GONE:
                raise KafkaError(
                    f"Kafka does not let this worker write in transactions ({', '.join(sorted(set(self.errors)))}); "
                    "look at the broker's log, or use `delivery: at_least_once`"
                )
            if self._clock() > end:
                raise KafkaError(
                    f"no transaction coordinator answered within {_START_SECONDS:g} s "
                    f"({', '.join(sorted(set(self.errors))) or 'no error was told'}); are there as many brokers as "
                    "transaction.state.log.replication.factor and transaction.state.log.min.isr ask for?"
                )

    def _advance(self, wait: float) -> None:
        """Begin the call that this state asks for, or take its result."""
        if not self._aside.busy:
            if self._state is _State.STARTING:
                self._call(partial(patiently, self._producer.init_transactions))
            elif self._state is _State.FAILED:
                late, self._late = self._late, set()
                self._call(partial(abort, self._producer, late))
            else:
                return
        ended = self._aside.result(wait)
        if ended is None:
            if self._clock() > self._call_until:
                self._abandon()
            return
        (error,) = ended
        if error is None:
            if self._state is _State.COMMITTING:
                self._went_through()
            self._state = _State.READY
        elif isinstance(error, KafkaException):
            self._take_ended(error.args[0])
        else:
            raise error

    def _call(self, call: Callable[[], None]) -> None:
        self._aside.start(call)
        self._call_until = self._clock() + self._timeout + _LATE_SECONDS

    def _abandon(self) -> None:
        """Give up on a call that does not come back: the client forgets some of them when all brokers go away.

        Its thread stays behind, and the client with it. Whatever it does later, it has been shut out by the new one.
        """
        self.errors.append("_TIMED_OUT")
        self._in_doubt = self._in_doubt or (self._state is _State.COMMITTING and bool(self._sent))
        self._aside = Aside("transactions")
        self._state, self.broken = _State.GONE, True

    def _take_ended(self, error: ClientError) -> None:
        if self._state is _State.COMMITTING:
            if self._sent:
                self._in_doubt = True  # it may have gone through, whatever the client makes of the answer
                self._take(error, "committing a transaction")
                return
            if error.retriable():
                self._state = _State.OPEN  # the offsets can be sent again
                if self._doomed:
                    self._fail()
            self._take(error, "sending offsets to the transaction")
        else:
            self._take(error, "starting transactions" if self._state is _State.STARTING else "aborting a transaction")

    def send(self, token: TokenT, record: Outgoing) -> None:
        """Add a record to the transaction; in one that has failed meanwhile, it is only noted to be sent again.

        Args:
            token: Names the record in the reports.
            record: What to produce.
        """
        if self._state is _State.READY:
            self._begin()
        self._tokens.append(token)
        if self._state is not _State.OPEN:
            return
        topic, key, value, headers, timestamp = record
        delivered = partial(self._delivered, self._number, token)
        while True:
            try:
                # By position: keywords cost half a microsecond a record.
                self._producer.produce(topic, value, key, ANY_PARTITION, delivered, None, timestamp, headers)
            except BufferError:
                self._serve(0.1)  # its queue is full: let some of it be delivered
            except KafkaException as error:
                self._take_failed(self._number, token, error.args[0], topic)
                return
            else:
                return

    def _begin(self) -> bool:
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            self._take(error.args[0], "beginning a transaction")
            return False
        self._state, self._doomed, self._told = _State.OPEN, False, False
        self._number += 1
        self._began = self._clock()
        return True

    def _on_delivery(self, number: int, token: TokenT, error: ClientError | None, message: Message) -> None:
        # Called for failures only (delivery.report.only.error); must not raise.
        if error is not None:
            self._take_failed(number, token, error, message.topic())

    def _take_failed(self, number: int, token: TokenT, error: ClientError, topic: str | None) -> None:
        if number != self._number or self._state not in {_State.OPEN, _State.COMMITTING}:
            return  # what an abort throws away, which may be told late
        if (code := REFUSALS.get(error.code())) is not None:
            self._refused.append((token, code))
        elif is_hopeless(error):
            self._permanent = failure(error, f"producing to {topic}")
        else:
            self.errors.append(error.name())
            self._undelivered.append(token)
            if topic is not None:
                self._late.add(topic)

    def _on_error(self, error: ClientError) -> None:
        if is_hopeless(error):
            self._permanent = failure(error, "producing")
        else:
            self.errors.append(error.name())

    def commit(self, offsets: Mapping[Partition, tuple[int, str]], group: bytes) -> None:
        """Put the offsets into the transaction, and begin to commit it; `poll` tells when that is done.

        Args:
            offsets: What the group is to go on from once this is done, with the mark beside it.
            group: The consumer's metadata, taken at this moment: by it the broker refuses who is not a member any more.
        """
        if self._refused or self._undelivered:
            self._fail()  # else it would be committed without them
            return
        if self._state is _State.READY and not self._begin():
            return
        placed = [TopicPartition(*at, offset, mark) for at, (offset, mark) in offsets.items()]
        producer = self._producer
        self._offsets = {partition: offset for partition, (offset, _) in offsets.items()}
        self._sent = sent = []  # of this call alone, which may outlive its client

        def end() -> None:
            producer.send_offsets_to_transaction(placed, group)
            sent.append(True)
            patiently(producer.commit_transaction)

        self._state, self._told = _State.COMMITTING, True
        self._call(end)

    def poll(self, wait: float) -> Reports[TokenT]:
        """Go on with what is under way, and take what has become of records.

        Args:
            wait: Seconds to wait for something to happen.

        Raises:
            KafkaError: Kafka refuses to be written to, or another worker has taken this one's name.
        """
        self._serve(0 if self._aside.busy else wait)
        if self._state is _State.COMMITTING:
            self._advance(wait)
        self._raise_permanent()
        if self._state is _State.COMMITTING:
            return Reports([], [], [])  # the call that is under way ends by what has been refused
        if self._refused or self._undelivered:
            self._fail()
        reports = Reports(self._acknowledged, self._refused, self._undelivered)
        self._acknowledged, self._refused, self._undelivered = [], [], []
        return reports

    def _serve(self, wait: float) -> None:
        """Let the client call back."""
        try:
            self._producer.poll(wait)
        except KafkaException as error:  # the client's end is told in this way, too
            if not self._aside.busy:  # else the call that is under way will say so
                self._take(error.args[0], "producing")

    def _flush(self, wait: float) -> None:
        try:
            self._producer.flush(wait)
        except KafkaException as error:
            self._take(error.args[0], "producing")

    def _went_through(self) -> None:
        self._missing_since = None
        self._acknowledged += self._tokens
        self._tokens = []
        self.committed |= self._offsets
        self._offsets = {}

    def _take(self, error: ClientError, doing: str) -> None:
        """Do what an error asks for."""
        if is_hopeless(error) and not self._may_come_back(error):
            raise failure(error, doing)
        self.errors.append(error.name())
        if error.code() in _FENCED and self._named:
            open_ = self._state in {_State.OPEN, _State.COMMITTING, _State.FAILED}
            if not open_ or self._clock() - self._began < self._timeout:
                raise KafkaError(
                    f"{doing}: another worker runs under the same kafka.instance_id and has taken over: give each "
                    "worker a name of its own"
                )
            # Its own timeout can have ended the transaction; or another worker has, while this one was frozen.
            self.unconfirmed = True
        if error.fatal() or error.code() in _FENCED:
            self._state, self.broken = _State.GONE, True
        elif error.txn_requires_abort():
            self._fail()
        elif not error.retriable() and self._state is not _State.STARTING:
            # It says nothing of itself: what is certain is that a new client begins from a known state.
            self._state, self.broken = _State.GONE, True

    def _may_come_back(self, error: ClientError) -> bool:
        """Whether this is about a topic that is missing, and was not for longer than the client waits for one.

        A record without a topic waits in the client; a transaction that was to write to it fails at once.
        """
        if error.code() != ClientError.UNKNOWN_TOPIC_OR_PART or not error.txn_requires_abort():
            return False
        if self._missing_since is None:
            self._missing_since = self._clock()
        return self._clock() - self._missing_since < self._patience

    def _fail(self) -> None:
        if self._state in {_State.OPEN, _State.COMMITTING}:
            self._state, self.broken = _State.FAILED, True

    def doom(self) -> None:
        """Have the open transaction aborted: it holds results of partitions that were taken away.

        One that is being committed holds their offsets too. It may go through, or fail, but not be gone on with: the
        next offsets would be those of the next assignment, which has all the events before them once more.
        """
        self._doomed = True
        if self._state is _State.OPEN:
            self._fail()

    def close(self) -> None:
        """Abort what is open, if that can be done at once; else the broker does when the transaction's time is up."""
        if self._state is _State.OPEN:
            self._fail()
        if self._state is _State.FAILED:
            self._advance(_CLOSE_SECONDS)

    def recover(self) -> bool:
        """Go on with getting back to where records can be sent.

        Returns:
            Whether that is done now: then all records that were not told to be acknowledged have to be sent again.
        """
        self._serve(0)
        self._raise_permanent()
        if self._state is _State.FAILED:
            self._advance(0)
        if self._state is _State.GONE:
            if self.unconfirmed and self._in_doubt:
                self._resolve()
            if self.unconfirmed or self._clock() < self._build_at:
                return False
            self._build_at = self._clock() + _BUILD_SECONDS
            self._producer = self._build()
            self._state = _State.STARTING
        if self._state is _State.STARTING:
            self._advance(0)
        if self._state is not _State.READY or (self._in_doubt and not self._resolve()):
            return False
        self._tokens, self._offsets = [], {}
        self.broken = False
        return True

    def _resolve(self) -> bool:
        """Find out what became of a commit whose answer did not come, if that can be told now."""
        went_through = self._has_committed(self._offsets)
        if went_through is None:
            return False
        if went_through:
            self._went_through()
        self._in_doubt = False
        return True

    def send_alone(self, token: TokenT, record: Outgoing, wait: float) -> Code | None:
        """Send a record that shares its produce batch with no other.

        Args:
            token: Names the record in the reports.
            record: What to produce.
            wait: Seconds to wait for the others before it, and again for its answer.

        Returns:
            The reason code when Kafka refuses it. The transaction has failed then, and has to begin again.
        """
        self._flush(wait)
        if self._refused or self._undelivered:
            self._fail()
        self.send(token, record)
        self._flush(wait)
        if (code := take_refusal(self._refused, token)) is not None:
            self._fail()
        return code

    def _raise_permanent(self) -> None:
        if self._permanent is not None:
            raise self._permanent
