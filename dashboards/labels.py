"""The dashboard of what was labelled: which labels, how sure, how many events got none, and what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.models.common import StackingMode

from dashboards.frame import Row
from dashboards.panels import EVENTS, EVENTS_A_SECOND, SHARE, Query, Words, bars, density, lines, value
from dashboards.queries import RANGE, RATE, increase, mean, quantile, rate, series, share

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "stream-classifier: labels"
SET = "$label_set"

LABELLED = increase("events_labelled_total", label_set=SET)
UNLABELLED = share(increase("abstained_total", label_set=SET), LABELLED)
DRIFT = 'max(job_label_set:stream_classifier_label_mix:drift{job=~"$job", label_set=~"$label_set"})'


def _mix(over: str, offset: str = "") -> str:
    """The share of each label among the labelled events of a time, those without one as `(none)`."""

    def grown(name: str, by: str = "") -> str:
        return f"sum{by} (increase({series(name, label_set=SET)}[{over}]{offset}))"

    none = f'label_replace({grown("abstained_total")}, "label", "(none)", "", "")'
    given = f"({grown('labels_assigned_total', ' by (label)')} or {none})"
    return share(given, grown("events_labelled_total"), each=True)


def rows() -> Sequence[Row]:
    """The dashboard, from top to bottom."""
    return [_summary(), _labels(), _confidence(), _refused()]


def _summary() -> Row:
    return Row(
        "In the time that is shown",
        [
            value(Words("Labelled events", "Events that went to the output topic."), Query(LABELLED, "events"), EVENTS),
            value(
                Words(
                    "Events without a label",
                    "No label reached its threshold. Many: texts that no label is about, or thresholds that are too "
                    "high; `stream-classifier calibrate` fits them to labelled texts.",
                    "StreamClassifierLabelMixDrift",
                ),
                Query(UNLABELLED, "share"),
                SHARE,
                limits=(0.2, 0.5),
                decimals=1,
            ),
            value(
                Words("Mean confidence", "The score of the best label. It falls when texts change their subject."),
                Query(mean("confidence", over=RANGE, label_set=SET), "mean"),
                SHARE,
                decimals=1,
            ),
            value(
                Words(
                    "Drift of the label mix",
                    "The share of events that would have to get another label for the mix of the last six hours to be "
                    "that of a week ago (a day ago, where there is no such week). It needs "
                    "stream-classifier.rules.yml, and a day.",
                    "StreamClassifierLabelMixDrift",
                ),
                Query(DRIFT, "drift"),
                SHARE,
                limits=(0.1, 0.2),
                no_value="nothing to compare with yet",
                decimals=1,
            ),
            value(
                Words(
                    "Texts cut short",
                    "The model read only the beginning of these. Many: see model.max_length.",
                ),
                Query(share(increase("truncated_total"), increase("events_labelled_total")), "share"),
                SHARE,
                limits=(0.05, 0.2),
                decimals=1,
            ),
            value(
                Words(
                    "Refused events",
                    "Dead letters: `stream-classifier dead-letters list` says which.",
                    "StreamClassifierDeadLetters",
                ),
                Query(increase("dead_letters_total"), "events"),
                EVENTS,
            ),
        ],
    )


def _labels() -> Row:
    return Row(
        "Labels",
        [
            lines(
                Words(
                    "Labels over time",
                    "Events that got each label. A label that jumps up is news, or a change of the texts that it "
                    "swallows by mistake: look at some with `stream-classifier watch`.",
                    "StreamClassifierLabelMixDrift",
                ),
                [Query(rate("labels_assigned_total", "label", label_set=SET), "{{label}}")],
                EVENTS_A_SECOND,
                stacked=StackingMode.NORMAL,
                span=16,
            ),
            bars(
                Words("Label mix", "The share of each label in the time that is shown; (none): no label."),
                Query(f"sort_desc({_mix(RANGE)})", "{{label}}"),
                SHARE,
            ),
            lines(
                Words(
                    "Label mix over time",
                    "The same in shares, so that more events of all kinds do not show.",
                    "StreamClassifierLabelMixDrift",
                ),
                [Query(_mix(RATE), "{{label}}")],
                SHARE,
                stacked=StackingMode.NORMAL,
                most=1,
                span=16,
            ),
            bars(
                Words("Label mix a week before", "To compare with the one above."),
                Query(f"sort_desc({_mix(RANGE, ' offset 1w')})", "{{label}}"),
                SHARE,
            ),
            lines(
                Words("Label sets", "adhoc: events that brought labels of their own."),
                [Query(rate("events_labelled_total", "label_set", label_set=SET), "{{label_set}}")],
                EVENTS_A_SECOND,
                stacked=StackingMode.NORMAL,
                span=12,
            ),
            lines(
                Words("Volume by topic", "Events that were polled."),
                [Query(rate("events_consumed_total", "topic"), "{{topic}}")],
                EVENTS_A_SECOND,
                stacked=StackingMode.NORMAL,
                span=12,
            ),
        ],
    )


def _confidence() -> Row:
    quantiles = [
        Query(quantile(q, "confidence", "label_set", label_set=SET), f"p{q * 100:g} {{{{label_set}}}}")
        for q in (0.1, 0.5, 0.9)
    ]
    abstained = share(
        rate("abstained_total", "label_set", label_set=SET), rate("events_labelled_total", "label_set", label_set=SET)
    )
    return Row(
        "How sure is it?",
        [
            lines(
                Words(
                    "Confidence",
                    "The score of the best label, whether it was given or not. All of it lower than last week: the "
                    "texts are about something that no label names.",
                ),
                quantiles,
                SHARE,
                most=1,
            ),
            density(
                Words("Confidence, all of it", "A second band low down: a kind of text that has no label."),
                Query(increase("confidence_bucket", "le", RATE, label_set=SET), "{{le}}"),
            ),
            lines(
                Words(
                    "Events without a label",
                    "Their share. Up after a new version of the set: a description or a threshold is wrong.",
                    "StreamClassifierLabelMixDrift",
                ),
                [Query(abstained, "{{label_set}}")],
                SHARE,
                most=1,
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
                    "What each reason means stands in the documentation of dead letters.",
                    "StreamClassifierDeadLetters",
                ),
                [Query(rate("dead_letters_total", "reason"), "{{reason}}")],
                EVENTS_A_SECOND,
                stacked=StackingMode.NORMAL,
                span=16,
            ),
            bars(
                Words(
                    "Dead letters in the time that is shown",
                    "By reason; `stream-classifier dead-letters list --since` counts the same.",
                ),
                Query(f"sort_desc({increase('dead_letters_total', 'reason')})", "{{reason}}"),
                EVENTS,
            ),
        ],
    )
