"""What is reported anywhere is declared once, and nobody outside can make series without end."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import stream_app
from stream_app.telemetry.metrics import METRICS, MOST_VALUES, OTHER, Kind, PrometheusObserver

PACKAGE = Path(stream_app.__file__).parent


def samples(observer: PrometheusObserver, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the exported series of that name, by their labels."""
    families = text_string_to_metric_families(observer.exposition().decode())
    return {tuple(sorted(s.labels.items())): s.value for f in families for s in f.samples if s.name == name}


@pytest.fixture
def observer() -> PrometheusObserver:
    return PrometheusObserver()


def test_counters_add_up_gauges_keep_the_newest_histograms_sort(observer: PrometheusObserver) -> None:
    observer("events_consumed", amount=3, model="a", outcome="learned")
    observer("events_consumed", amount=4, model="a", outcome="learned")
    observer("model_score", amount=0.5, model="a", metric="accuracy", split="prequential")
    observer("model_score", amount=0.75, model="a", metric="accuracy", split="prequential")
    observer("learn_duration", amount=0.02, model="a")
    consumed = samples(observer, "stream_app_events_consumed_total")
    assert consumed == {(("model", "a"), ("outcome", "learned")): 7.0}
    assert list(samples(observer, "stream_app_model_score").values()) == [0.75]
    buckets = samples(observer, "stream_app_learn_duration_seconds_bucket")
    assert buckets[(("le", "0.01"), ("model", "a"))] == 0
    assert buckets[(("le", "0.025"), ("model", "a"))] == 1


def test_the_names_of_the_documents_keep_their_own_labels(observer: PrometheusObserver) -> None:
    observer("model_retraining_triggered", model="iris", trigger_type="volume")
    observer("model_retraining_duration", amount=2.0, model="iris", status="success")
    observer("model_retraining_success", model="iris")
    observer("model_retraining_failure", model_name="iris", error_type="timeout")
    observer("model_age", amount=60.0, model="iris")
    iris = ("model_name", "iris")
    assert samples(observer, "model_retraining_triggered_total") == {(iris, ("trigger_type", "volume")): 1.0}
    assert samples(observer, "model_retraining_duration_seconds_sum") == {(iris, ("status", "success")): 2.0}
    assert samples(observer, "model_retraining_success_total") == {(iris,): 1.0}
    assert samples(observer, "model_retraining_failure_total") == {(("error_type", "timeout"), iris): 1.0}
    assert samples(observer, "model_age_seconds") == {(iris,): 60.0}
    assert samples(observer, "stream_app_model_age_seconds") == {(("model", "iris"),): 60.0}


def test_ten_thousand_names_make_no_more_series_than_the_bound(observer: PrometheusObserver) -> None:
    for i in range(10_000):
        observer("events_consumed", model=f"m{i}", outcome="learned")
    series = samples(observer, "stream_app_events_consumed_total")
    assert len(series) == MOST_VALUES + 1
    assert series[(("model", OTHER), ("outcome", "learned"))] == 10_000 - MOST_VALUES
    assert sum(series.values()) == 10_000


def test_a_model_is_shown_with_the_version_that_serves_only(observer: PrometheusObserver) -> None:
    for seq in range(10 * MOST_VALUES):
        observer("model_info", model="a", version=f"1.{seq}", algorithm="river:LogisticRegression")
    observer("model_info", model="b", version="3", algorithm="x")
    shown = {dict(labels)["model"]: dict(labels)["version"] for labels in samples(observer, "stream_app_model_info")}
    assert shown == {"a": f"1.{10 * MOST_VALUES - 1}", "b": "3"}


@pytest.mark.parametrize(
    ("fact", "labels"),
    [
        ("no_such_fact", {}),
        ("events_consumed", {"model": "a"}),
        ("events_consumed", {"model": "a", "outcome": "learned", "x": "y"}),
    ],
)
def test_a_slip_is_counted_and_stops_nothing(observer: PrometheusObserver, fact: str, labels: dict[str, str]) -> None:
    observer(fact, amount=1.0, **labels)
    assert list(samples(observer, "stream_app_misreported_facts_total").values()) == [1.0]


def test_a_counter_that_would_fall_is_a_slip(observer: PrometheusObserver) -> None:
    observer("events_consumed", amount=-1, model="a", outcome="learned")
    assert list(samples(observer, "stream_app_misreported_facts_total").values()) == [1.0]


def test_observers_share_nothing() -> None:
    one, other = PrometheusObserver(), PrometheusObserver()
    one("relay_outage")
    assert list(samples(other, "stream_app_relay_outage_total").values()) == [0.0]


def test_names_follow_the_conventions_of_prometheus() -> None:
    ours = [metric for metric in METRICS if not metric.name.startswith("model_")]
    assert all(metric.name.startswith("stream_app_") for metric in ours)
    assert all(metric.sentence.endswith(".") for metric in METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(metric.buckets for metric in METRICS if metric.kind is Kind.HISTOGRAM)


def reports() -> Iterator[tuple[str, str, set[str]]]:
    """Yield (place, fact, labels) of every report in the package whose fact is written out."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"observe", "_observe"}:
                fact = node.args[0] if node.args else None
                if isinstance(fact, ast.Constant) and isinstance(fact.value, str):
                    labels = {str(k.arg) for k in node.keywords if k.arg != "amount"}
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", fact.value, labels


def test_every_report_in_the_package_is_declared() -> None:
    declared = {m.fact: {"model" if n == "model_name" else n for n in m.labels} for m in METRICS}
    found = list(reports())
    wrong = [
        f"{place}: {fact}{sorted(labels)}"
        for place, fact, labels in found
        if declared.get(fact) != {"model" if n == "model_name" else n for n in labels}
    ]
    assert found
    assert not wrong


def test_the_table_in_the_docs_is_the_declarations() -> None:
    table = (PACKAGE.parent / "docs" / "metrics.md").read_text()
    for metric in METRICS:
        name = metric.name + ("_total" if metric.kind is Kind.COUNTER else "")
        row = f"| `{name}` | {metric.kind.name.lower()} | {', '.join(metric.labels) or '–'} | {metric.sentence} |"  # noqa: RUF001 - a dash in prose
        assert row in table


def test_what_may_happen_to_a_model_is_exported_before_it_does(observer: PrometheusObserver) -> None:
    observer.expect(["a", "b"])
    broken = samples(observer, "stream_app_checkpoints_broken_total")
    assert len(broken) == 6
    assert set(broken.values()) == {0.0}
    failed = (("model_name", "a"), ("status", "failed"))
    assert samples(observer, "model_retraining_duration_seconds_count")[failed] == 0
    observer("checkpoints_broken", model="a", reason="hmac")
    assert samples(observer, "stream_app_checkpoints_broken_total")[(("model", "a"), ("reason", "hmac"))] == 1
