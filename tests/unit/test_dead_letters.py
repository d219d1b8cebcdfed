"""A dead letter tells what happened, and brings its record back as it was, under an id of its own."""

import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.cli.dlq import printable
from stream_app.errors import InvalidRecord, Misconfigured, WrongArgument
from stream_app.kafka.dead_letters import DIGEST, KEPT, LONGEST_TRACE, PREFIX, Grave, attempts_of, dead_letter
from stream_app.kafka.graveyard import Selection, replay
from stream_app.kafka.letters import Letter, read_corrections, resurrect
from stream_app.ports import Outgoing
from stream_app.values import Partition, Run

GRAVE = Grave(suffix=".dlq", group="g", max_message_bytes=100_000)
SOURCES = ("ground-truth", "housing")
#: Read by orjson, but not written.
DEEP = b'{"a":' * 300 + b"1" + b"}" * 300
PLACE = Partition(incarnation="inc", topic="ground-truth", number=2)


def letter(
    value: bytes | None,
    *,
    headers: tuple[tuple[str, bytes], ...] = (),
    index: int | None = None,
    place: Partition = PLACE,
    error: BaseException | str = "no good",
) -> Letter:
    """Return the letter that the worker would write about a message at offset 17."""
    run = Run(partition=place, offsets=[17], keys=[b"m"], values=[value], headers=[headers], timestamps_ms=[1])
    message = dead_letter(GRAVE, run, 0, index=index, reason="not_json", error=error, now=0.0)
    return Letter(
        topic=message.topic, partition=2, offset=5, key=message.key, value=message.value, headers=message.headers
    )


def sent(result: Outgoing | str) -> Outgoing:
    assert isinstance(result, Outgoing)
    return result


def test_a_letter_holds_key_and_value_byte_for_byte_and_says_where_and_why() -> None:
    shaped = letter(b"\xff\x00", error=InvalidRecord("not_json", "no good"))
    assert (shaped.topic, shaped.key, shaped.value) == ("ground-truth.dlq", b"m", b"\xff\x00")
    assert [shaped.header(PREFIX + name) for name in ("topic", "partition", "offset", "stage")] == [
        "ground-truth", "2", "17", "VALUE_CONVERTER"
    ]  # fmt: skip
    assert shaped.header("x-dlq-reason") == "not_json"
    assert shaped.header("x-dlq-failed-at") == "1970-01-01T00:00:00+00:00"
    assert "InvalidRecord: no good" in shaped.header(PREFIX + "exception.stacktrace")


def test_a_stack_trace_is_cut() -> None:
    assert len(letter(b"", error=ValueError("x" * 10_000)).header(PREFIX + "exception.stacktrace")) == LONGEST_TRACE


@pytest.mark.parametrize("count", [b"9" * 5_000, b"\xff", b"-1", "²".encode()])
def test_a_forged_count_of_attempts_is_not_believed(count: bytes) -> None:
    assert attempts_of([("x-dlq-attempts", count)]) == 0


def test_a_record_nested_too_deeply_to_be_written_comes_back_as_it_was_or_not_at_all() -> None:
    assert sent(resurrect(letter(DEEP), SOURCES)).value == DEEP
    assert "nested too deeply" in str(resurrect(letter(b"[" + DEEP + b"]", index=0), SOURCES))


def test_a_value_that_is_too_large_leaves_its_digest_and_a_prefix() -> None:
    shaped = letter(b"x" * 200_000)
    assert shaped.value == b"x" * KEPT
    assert len(shaped.header(DIGEST)) == 64
    assert shaped.header("x-dlq-size") == "200000"


def test_what_is_sent_back_has_the_producers_headers_and_the_number_of_attempts() -> None:
    theirs = (("trace", b"1"), ("trace", b"2"))
    back = sent(resurrect(letter(b"{}", headers=theirs), SOURCES))
    assert (back.topic, back.key, back.partition) == ("ground-truth", b"m", None)
    assert back.headers == (*theirs, ("x-dlq-attempts", b"1"))
    again = sent(resurrect(letter(b"{}", headers=back.headers), SOURCES))
    assert attempts_of(again.headers) == 2
    assert len(again.headers) == 3


def test_a_record_without_id_is_known_by_its_first_coordinates_however_often_it_is_sent() -> None:
    first = sent(resurrect(letter(b'{"a": 1}'), SOURCES))
    assert orjson.loads(first.value or b"") == {"a": 1, "event_id": "dlq:inc/ground-truth/2/17/0"}
    assert resurrect(letter(b'{"a": 1}'), SOURCES) == first


@pytest.mark.parametrize(
    "value", [b'{"event_id": "x", "a":1}', b'{"specversion": "1.0", "data": {}}', b"{broken", b"7"]
)
def test_a_value_that_has_an_id_or_can_have_none_comes_back_byte_for_byte(value: bytes) -> None:
    assert sent(resurrect(letter(value), SOURCES)).value == value


def test_only_the_bad_element_of_an_array_comes_back() -> None:
    back = sent(resurrect(letter(b'[{"a": 0}, {"a": "x"}, {"a": 2}]', index=1), SOURCES))
    assert orjson.loads(back.value or b"") == {"a": "x", "event_id": "dlq:inc/ground-truth/2/17/1"}


def test_each_record_of_an_array_that_failed_as_a_whole_gets_its_own_id() -> None:
    back = sent(resurrect(letter(b'[{"a": 0}, {"a": 1, "event_id": "mine"}, 7]'), SOURCES))
    assert orjson.loads(back.value or b"") == [
        {"a": 0, "event_id": "dlq:inc/ground-truth/2/17/0"}, {"a": 1, "event_id": "mine"}, 7
    ]  # fmt: skip


@pytest.mark.parametrize("incarnation", ["inc", "a/b+c=="])
def test_a_forwarded_record_is_known_by_where_it_first_was_and_loses_its_origin(incarnation: str) -> None:
    origin = ("x-stream-app-origin", f"{incarnation}/housing/0/99/3".encode())
    back = sent(resurrect(letter(b'{"a": 1}', headers=(origin,)), SOURCES))
    assert orjson.loads(back.value or b"")["event_id"] == f"dlq:{incarnation}/housing/0/99/3"
    assert origin not in back.headers


def test_a_forged_origin_is_not_believed() -> None:
    back = sent(resurrect(letter(b'{"a": 1}', headers=(("x-stream-app-origin", b"x/y"),)), SOURCES))
    assert orjson.loads(back.value or b"")["event_id"] == "dlq:inc/ground-truth/2/17/0"


def test_a_corrected_value_is_sent_under_the_id_of_the_bad_one() -> None:
    back = sent(resurrect(letter(b"garbage"), SOURCES, b'{"a": 1}'))
    assert orjson.loads(back.value or b"") == {"a": 1, "event_id": "dlq:inc/ground-truth/2/17/0"}
    assert sent(resurrect(letter(b"x" * 200_000), SOURCES, b'{"a": 1}')).topic == "ground-truth"


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (letter(b"x" * 200_000), "too large"),
        (letter(None), "no value"),
        (letter(b"[1]", index=3), "element 3"),
        (letter(b"{}", index=0), "element 0"),
        (letter(b"null", index=0), "its value, null, is no record"),
        (letter(b" 5", index=0), "its value,  5, is no record"),
        (letter(b'[{}, "x"]', index=1), 'element 1 of its value, "x", is no record'),
        (letter(b"{}", place=Partition(incarnation="i", topic="secrets", number=0)), "'secrets'"),
    ],
)
def test_what_cannot_come_back_is_refused_with_the_reason(refused: Letter, why: str) -> None:
    result = resurrect(refused, SOURCES)
    assert isinstance(result, str)
    assert why in result


@pytest.mark.parametrize(
    ("key", "value", "model"),
    [(b"m", b"{}", "m"), (b"m", b'{"model": "other"}', "other"), (None, b"garbage", ""), (b"m", b'{"model": 7}', "m")],
)
def test_the_model_of_a_letter_is_the_one_it_names_or_its_key(key: bytes | None, value: bytes, model: str) -> None:
    shaped = letter(value)
    assert Letter(**{**_fields(shaped), "key": key}).model({"housing": "h"}) == model


def test_the_model_of_an_ingest_topics_letter_is_the_one_it_feeds() -> None:
    assert letter(b"{}", place=Partition(incarnation="i", topic="housing", number=0)).model({"housing": "h"}) == "h"


def _fields(shaped: Letter) -> dict[str, Any]:
    return {name: getattr(shaped, name) for name in Letter.__slots__}


def test_replay_sends_what_is_selected_and_says_what_became_of_the_rest() -> None:
    letters = [Letter(**{**_fields(letter(b'{"a": 1}')), "offset": offset}) for offset in range(4)]
    corrections = {("ground-truth.dlq", 2, 1): b'{"a": 2}', ("ground-truth.dlq", 2, 9): b"{}"}
    delivered: list[Outgoing] = []
    outcomes = list(replay(letters, Selection(corrections=corrections), SOURCES, delivered.extend, limit=None))
    assert [(o.offset, o.to, bool(o.refusal)) for o in outcomes] == [(1, "ground-truth", False), (9, None, True)]
    assert [orjson.loads(m.value or b"")["a"] for m in delivered] == [2]


def test_replay_stops_at_its_limit_and_filters_by_reason_and_place() -> None:
    letters = [Letter(**{**_fields(letter(b"{}")), "offset": offset}) for offset in range(4)]

    def offsets(selection: Selection, limit: int | None = None) -> list[int]:
        return [o.offset for o in replay(letters, selection, SOURCES, lambda _: None, limit=limit)]

    assert offsets(Selection(), limit=2) == [0, 1]
    assert offsets(Selection(reason="not_json", offset=3)) == [3]
    assert offsets(Selection(partition=0)) == []


def test_a_reason_that_no_letter_has_is_a_wrong_argument_and_nothing_is_sent() -> None:
    delivered: list[Outgoing] = []
    with pytest.raises(WrongArgument, match=r"^reason is 'nonsense', expected one that letters have: not_json$"):
        list(replay([letter(b"{}")], Selection(reason="nonsense"), SOURCES, delivered.extend, limit=1))
    assert not delivered
    assert list(replay([], Selection(reason="nonsense"), SOURCES, delivered.extend, limit=1)) == []


def test_corrections_are_read_by_place() -> None:
    lines = [
        b'{"partition": 0, "offset": 3, "value": {"a": 1}}\n',
        b"\n",
        b'{"partition": 1, "offset": 0, "value": [{}]}',
    ]
    assert read_corrections(lines, "t.dlq") == {("t.dlq", 0, 3): b'{"a":1}', ("t.dlq", 1, 0): b"[{}]"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"garbage", "line 1: expected a JSON object"),
        (b"[]", "line 1: expected a JSON object"),
        (b'{"partition": "0", "offset": 1, "value": {}}', 'line 1: partition is "0", expected a whole number'),
        (b'{"partition": 0, "offset": -1, "value": {}}', "line 1: offset is -1, expected a whole number"),
        (b'{"partition": 0, "offset": true, "value": {}}', "line 1: offset is true, expected"),
        (b'{"partition": 0, "offset": 1}', "line 1: value is missing, expected an object"),
        (b'{"partition": 0, "offset": 1, "value": null}', "line 1: value is null, expected an object"),
        (b'{"partition": 0, "offset": 1, "value": [1]}', "line 1: value is \\[1\\], expected an object"),
        (b'{"partition": 0, "offset": 1, "value": ' + DEEP + b"}", "line 1: value is nested too deeply, expected at"),
        (b'{"partition": ' + DEEP + b', "offset": 1}', "line 1: partition is nested too deeply, expected a whole"),
    ],
)
def test_a_wrong_correction_names_line_field_and_what_was_expected(line: bytes, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        read_corrections([line], "t.dlq")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ANY_VALUE = st.binary(max_size=50) | ANY_JSON.map(orjson.dumps) | st.none()
ANY_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["trace", "x-dlq-index", "x-dlq-attempts", "x-stream-app-origin"]), st.binary(max_size=20)
    ),
    max_size=4,
)


@given(value=ANY_VALUE, headers=ANY_HEADERS, index=st.none() | st.integers(0, 5))
def test_whatever_lies_in_a_letter_comes_back_or_is_refused_and_the_same_each_time(
    value: bytes | None, headers: list[tuple[str, bytes]], index: int | None
) -> None:
    shaped = letter(value, headers=tuple(headers), index=index)
    forged = Letter(**{**_fields(shaped), "headers": (*shaped.headers, *headers)})
    for each in (shaped, forged):
        result = resurrect(each, SOURCES)
        assert result == resurrect(each, SOURCES)
        if isinstance(result, Outgoing):
            assert not [name for name, _ in result.headers[:-1] if name.startswith("x-dlq-")]
            record = orjson.loads(result.value or b"") if (result.value or b"")[:1] == b"{" and _is_json(result) else {}
            assert not record or record.get("event_id") is not None or "specversion" in record


def _is_json(message: Outgoing) -> bool:
    try:
        orjson.loads(message.value or b"")
    except orjson.JSONDecodeError:
        return False
    return True


@given(st.text())
def test_printable_text_says_the_same_and_can_be_told_what_was_escaped(text: str) -> None:
    shown = printable(text)
    assert "\x1b" not in shown
    assert all(c == "\n" or c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
    assert printable(shown) == shown


def test_nothing_that_a_terminal_obeys_or_hides_is_printed() -> None:
    assert printable("a\x1b[31mred\x07\x9b\u202eb\nc\tü☃") == "a\\x1b[31mred\\x07\\x9b\\u202eb\nc\\tü☃"
