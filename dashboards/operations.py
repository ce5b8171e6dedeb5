"""The operator's dashboard: is it well, does it keep up, how fast is it, what failed, and what does it take?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.models.common import StackingMode

from dashboards.frame import Row
from dashboards.panels import (
    BYTES,
    EVENTS,
    EVENTS_A_SECOND,
    NUMBER,
    SECONDS,
    SHARE,
    TOKENS_A_SECOND,
    Query,
    Words,
    density,
    lines,
    value,
)
from dashboards.queries import RATE, increase, mean, quantile, rate, series, share, total

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "stream-classifier: operations"
WEEK = 604_800

LAG = total("consumer_lag")
DONE = rate("processing_seconds_count")
# Infinite with lag and nothing done; 0 without lag, whatever is done.
DRAIN = f"clamp_max(({LAG} > 0) / {DONE} or {LAG}, {WEEK})"
ARRIVING = f"clamp_min({DONE} + sum(deriv({series('consumer_lag')}[{RATE}])), 0)"
REFUSED = share(rate("dead_letters_total"), DONE)
PADDING = share(rate("tokens_total", kind="padding"), rate("tokens_total"))
HITS = share(rate("cache_requests_total", "cache", result="hit"), rate("cache_requests_total", "cache"))
FIRING = 'count(ALERTS{alertname=~"StreamClassifier.*", alertstate="firing"}) or vector(0)'


def rows() -> Sequence[Row]:
    """The dashboard, from top to bottom."""
    return [_health(), _lag(), _throughput(), _latency(), _under_way(), _kafka(), _refused(), _process(), _gpus()]


def _health() -> Row:
    return Row(
        "Is it well?",
        [
            value(
                Words(
                    "Alerts that fire",
                    "Their names stand in Prometheus at /alerts, and each has a section in the runbook. Without "
                    "stream-classifier.rules.yml this is always 0.",
                ),
                Query(FIRING, "alerts"),
                NUMBER,
                limits=(1, 2),
            ),
            value(
                Words(
                    "Workers that are not ready",
                    "0 is well. A worker that starts loads its model first; one that stays here says why at /readyz.",
                    "StreamClassifierWorkerNotReady",
                ),
                Query(f"count({series('ready')}) - {total('ready')}", "not ready"),
                NUMBER,
                limits=(1, 2),
                no_value="no worker answers",
            ),
            value(
                Words(
                    "Lag",
                    "Events behind the end of the input. What matters is whether it grows, and how long it takes to "
                    "drain.",
                    "StreamClassifierLagGrowing",
                ),
                Query(LAG, "events"),
                EVENTS,
                no_value="no partitions",
            ),
            value(
                Words(
                    "Time to drain",
                    "How long the lag would take at the present rate, if nothing more came. A week stands for: "
                    "nothing is labelled at all. Add workers, up to the number of partitions.",
                    "StreamClassifierLagGrowing",
                ),
                Query(DRAIN, "to drain"),
                SECONDS,
                limits=(60, 600),
                no_value="no partitions",
            ),
            value(
                Words(
                    "End to end, p99",
                    "99 of 100 events are faster than this, from the record's timestamp to the acknowledged result. "
                    "The objective is 5 s.",
                    "StreamClassifierLatencyBudgetBurnsFast",
                ),
                Query(quantile(0.99, "end_to_end_seconds"), "p99"),
                SECONDS,
                limits=(2.5, 5),
                no_value="no events",
            ),
            value(
                Words(
                    "Dead letters",
                    "Their share of all events. `stream-classifier dead-letters list` says which, by reason.",
                    "StreamClassifierDeadLetters",
                ),
                Query(REFUSED, "share"),
                SHARE,
                limits=(0.01, 0.05),
                no_value="no events",
                decimals=2,
            ),
        ],
    )


def _lag() -> Row:
    return Row(
        "Does it keep up?",
        [
            lines(
                Words(
                    "Lag by partition",
                    "One line far above the others: its key gets most of the events, or its worker is slow or stuck. "
                    "All of them growing: more comes than is labelled.",
                    "StreamClassifierLagGrowing",
                ),
                [Query(total("consumer_lag", "topic, partition"), "{{topic}}/{{partition}}")],
                EVENTS,
            ),
            lines(
                Words(
                    "What comes and what is done",
                    "Where what arrives is above what is done for long, the lag grows. What arrives is estimated: what "
                    "is done, and what the lag grows by.",
                    "StreamClassifierLagGrowing",
                ),
                [Query(ARRIVING, "arrives"), Query(DONE, "done")],
                EVENTS_A_SECOND,
            ),
            lines(
                Words(
                    "Time to drain",
                    "The lag over what is done in a second; a week stands for: nothing is labelled.",
                    "StreamClassifierStalled",
                ),
                [Query(DRAIN, "to drain")],
                SECONDS,
                limits=(60, 600),
            ),
        ],
    )


def _throughput() -> Row:
    return Row(
        "How much does it do?",
        [
            lines(
                Words(
                    "Events", "Polled without being done for long: see what is under way.", "StreamClassifierStalled"
                ),
                [
                    Query(rate("events_consumed_total"), "polled"),
                    Query(rate("events_labelled_total"), "labelled"),
                    Query(rate("dead_letters_total"), "dead letters"),
                    Query(rate("tombstones_passed_total"), "tombstones passed through"),
                ],
                EVENTS_A_SECOND,
            ),
            lines(
                Words(
                    "Events by worker",
                    "Workers with as many partitions should do about as much. One at 0 with lag is stuck.",
                    "StreamClassifierStalled",
                ),
                [Query(rate("processing_seconds_count", "instance"), "{{instance}}")],
                EVENTS_A_SECOND,
                stacked=StackingMode.NORMAL,
            ),
            lines(
                Words(
                    "Tokens",
                    "What the model reads, and what is filled up to the longest text of a batch. This, and not events, "
                    "is what a machine has a limit of.",
                ),
                [Query(rate("tokens_total", "kind"), "{{kind}}")],
                TOKENS_A_SECOND,
                stacked=StackingMode.NORMAL,
            ),
            lines(
                Words(
                    "Padding",
                    "The share of tokens that are computed for nothing. High: texts of very different lengths, in few "
                    "events at a time; a larger batch.max_events lets them be sorted.",
                ),
                [Query(PADDING, "padding")],
                SHARE,
                most=1,
            ),
            lines(
                Words(
                    "Batches",
                    "Texts (or pairs) in one run of the model. Small ones under load: batch.max_wait_ms or "
                    "batch.max_tokens is low.",
                ),
                [
                    Query(mean("batch_events"), "mean"),
                    Query(quantile(0.5, "batch_events"), "p50"),
                    Query(quantile(0.95, "batch_events"), "p95"),
                ],
                NUMBER,
            ),
            lines(
                Words("Cache hits", "Texts that came before cost nothing; a larger cache.results remembers more."),
                [Query(HITS, "{{cache}}")],
                SHARE,
                most=1,
            ),
        ],
    )


def _quantiles(name: str) -> list[Query]:
    return [Query(quantile(q, name), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]


def _latency() -> Row:
    return Row(
        "How fast is it?",
        [
            lines(
                Words(
                    "End to end",
                    "From the record's timestamp to the acknowledged result: it holds the time that the event waited "
                    "in the topic. High, with processing low: there is lag.",
                    "StreamClassifierLatencyBudgetBurnsFast",
                ),
                _quantiles("end_to_end_seconds"),
                SECONDS,
                limits=(2.5, 5),
            ),
            lines(
                Words(
                    "In the worker",
                    "From polled to acknowledged. High, with the model's runs short: too much is in flight "
                    "(batch.max_in_flight), or Kafka acknowledges slowly.",
                    "StreamClassifierUnsettledTooLong",
                ),
                _quantiles("processing_seconds"),
                SECONDS,
            ),
            lines(
                Words(
                    "One run of the model",
                    "Grows with the tokens of a batch. It has grown with no more tokens: another process has the CPU "
                    "or the GPU.",
                ),
                _quantiles("inference_seconds"),
                SECONDS,
            ),
            density(
                Words("End to end, all of it", "Two bands: some partitions wait, and others do not."),
                Query(increase("end_to_end_seconds_bucket", "le", RATE), "{{le}}"),
            ),
            lines(
                Words("Tokenising a window", "Milliseconds. More: very long texts, or no CPU left."),
                _quantiles("tokenize_seconds"),
                SECONDS,
            ),
            lines(
                Words("Tokens in a batch", "At most batch.max_tokens, but for a text that alone has more."),
                [Query(mean("batch_tokens"), "mean"), Query(quantile(0.95, "batch_tokens"), "p95")],
                NUMBER,
            ),
        ],
    )


def _under_way() -> Row:
    return Row(
        "What is under way?",
        [
            lines(
                Words("In flight", "Polled and not yet acknowledged, at most batch.max_in_flight for each worker."),
                [Query(total("in_flight_events", "instance"), "{{instance}}")],
                EVENTS,
            ),
            lines(
                Words(
                    "Oldest unsettled event",
                    "A steady climb: Kafka does not take results, or the model does not return. At "
                    "batch.timeout_seconds the worker ends itself.",
                    "StreamClassifierUnsettledTooLong",
                ),
                [Query(total("oldest_unsettled_seconds", "instance"), "{{instance}}")],
                SECONDS,
                limits=(30, 90),
            ),
            lines(
                Words(
                    "Partitions",
                    "What each worker has, and how many wait, since too much is in flight. Waiting all the time means "
                    "that the model is the limit: that is well, while the lag does not grow.",
                ),
                [
                    Query(total("assigned_partitions", "instance"), "{{instance}} has"),
                    Query(total("paused", "instance"), "{{instance}} waits with"),
                ],
                NUMBER,
            ),
        ],
    )


def _kafka() -> Row:
    return Row(
        "Kafka",
        [
            lines(
                Words(
                    "Commits",
                    "About one a second for each worker that has something to do. Failed ones cost no event: what was "
                    "not committed is labelled again after a restart. With exactly_once, see transactions.",
                    "StreamClassifierCommitsFailing",
                ),
                [Query(rate("commits_total", "result"), "{{result}}")],
                "ops",
            ),
            lines(
                Words(
                    "Transactions",
                    "With exactly_once. A few aborted ones come with a rebalance; many come of brokers that do not "
                    "answer, or of two workers with one kafka.instance_id.",
                    "StreamClassifierTransactionsAborting",
                ),
                [Query(rate("transactions_total", "result"), "{{result}}")],
                "ops",
            ),
            lines(
                Words(
                    "Rebalances",
                    "They come with workers that start and stop. Without: a worker misses its heartbeats or is killed.",
                    "StreamClassifierRebalanceStorm",
                ),
                [Query(increase("rebalances_total", "kind", RATE), "{{kind}}")],
                NUMBER,
            ),
            lines(
                Words(
                    "Retries",
                    "kafka_...: what the client met and mends itself; all_brokers_down says that Kafka is gone. "
                    "inference and out_of_memory: a run of the model failed and was cut smaller.",
                    "StreamClassifierStalled",
                ),
                [Query(rate("retries_total", "cause"), "{{cause}}")],
                "ops",
            ),
            lines(
                Words(
                    "Records that were not taken at once",
                    "They are sent again, so nothing is lost; a steady stream of them means that the output topic or "
                    "its brokers refuse something: the worker's log says what.",
                    "StreamClassifierUnsettledTooLong",
                ),
                [Query(rate("produce_errors_total"), "not taken")],
                EVENTS_A_SECOND,
            ),
            lines(
                Words(
                    "Gaps",
                    "Events that retention deleted before they were labelled (input.on_gap: continue). They are lost "
                    "to this worker; give the topic a longer retention, or the group more workers.",
                    "StreamClassifierEventsLost",
                ),
                [Query(increase("gaps_total", over=RATE), "gaps")],
                NUMBER,
                limits=(1,),
            ),
        ],
    )


def _refused() -> Row:
    return Row(
        "What was refused?",
        [
            lines(
                Words(
                    "Dead letters by reason",
                    "All of a sudden: a producer has changed. Look at some with `stream-classifier dead-letters show`, "
                    "and send them round again with `redrive` when the cause is gone.",
                    "StreamClassifierDeadLetters",
                ),
                [Query(rate("dead_letters_total", "reason"), "{{reason}}")],
                EVENTS_A_SECOND,
                stacked=StackingMode.NORMAL,
                span=16,
            ),
            lines(
                Words(
                    "The model failed on",
                    "Events on which the model fails alone (inference_failed), or which ended the process three times "
                    "(killed_worker).",
                    "StreamClassifierPoisonEvent",
                ),
                [
                    Query(
                        increase("dead_letters_total", "reason", RATE, reason="inference_failed|killed_worker"),
                        "{{reason}}",
                    )
                ],
                EVENTS,
                limits=(1,),
            ),
        ],
    )


def _process() -> Row:
    return Row(
        "What does it take?",
        [
            lines(
                Words(
                    "Memory",
                    "Flat after the model is loaded. Near the limit of its container: lower batch.max_in_flight_bytes, "
                    "cache.results or model.threads.",
                    "StreamClassifierCrashLooping",
                ),
                [Query(total("process_resident_memory_bytes", "instance"), "{{instance}}")],
                BYTES,
            ),
            lines(
                Words("CPU", "Cores in use. Below model.threads with lag: Kafka or the network is the limit."),
                [Query(rate("process_cpu_seconds_total", "instance"), "{{instance}}")],
                NUMBER,
            ),
            lines(
                Words(
                    "Up since",
                    "A saw that comes back to 0 again and again: the worker ends and is started again. Its log says "
                    "why.",
                    "StreamClassifierCrashLooping",
                ),
                [Query(f"time() - {total('process_start_time_seconds', 'instance')}", "{{instance}}")],
                SECONDS,
            ),
        ],
    )


def _gpus() -> Row:
    device = "instance, device"
    used, whole = total("device_memory_used_bytes", device), total("device_memory_total_bytes", device)
    return Row(
        "GPUs",
        [
            lines(
                Words(
                    "GPU busy",
                    "Near 1 under load. Less, with lag: batches are small (batch.max_tokens), or model.threads is low.",
                ),
                [Query(f"avg by ({device}) ({series('device_busy_ratio')})", "{{instance}} {{device}}")],
                SHARE,
                most=1,
                span=12,
            ),
            lines(
                Words(
                    "GPU memory",
                    "The share that is taken, by other processes too. Near 1, runs fail and are cut smaller "
                    "(out_of_memory among the retries).",
                ),
                [Query(f"{used} / {whole}", "{{instance}} {{device}}")],
                SHARE,
                most=1,
                limits=(0.9, 0.97),
                span=12,
            ),
        ],
        collapsed=True,
    )
