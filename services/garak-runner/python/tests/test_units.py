"""Small parts by themselves: event lines, Retry-After, remembered widths."""

from __future__ import annotations

import json
import os
import time
from email.utils import formatdate

import pytest

from aegis_garak.children import Child
from aegis_garak.protocol import MAX_EVENT_BYTES
from aegis_garak.target import fault_for_exception, parse_retry_after
from aegis_garak.widths import Widths, target_key


def test_lines_that_are_too_long_or_not_json_are_dropped_and_counted() -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    child = Child("x", 1, read_end, "target")
    bodies: list[dict[str, object]] = []
    for line in (b'{"a":1}', b"x" * (MAX_EVENT_BYTES + 1), b"nonsense", b"[]", b'{"b":2}'):
        data = line + b"\n"
        while data:  # in pieces, as a pipe may deliver them
            data = data[os.write(write_end, data[:50_000]) :]
            bodies += child.read_last_events()
    assert bodies == [{"a": 1}, {"b": 2}]
    assert child.dropped_lines == 3
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-1", None), ("soon", None), ("", None), (None, None), ("1e99", 86400.0)],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    seconds = parse_retry_after(formatdate(time.time() + 60, usegmt=True))
    assert seconds is not None
    assert 55 < seconds < 65


def test_faults_are_found_by_type_through_the_chain() -> None:
    outer = RuntimeError("timed out, it says")
    outer.__cause__ = ConnectionRefusedError()
    assert fault_for_exception(outer).code == "CONNECTION_REFUSED"
    assert fault_for_exception(TimeoutError()).code == "TIMEOUT"
    assert fault_for_exception(RuntimeError("timeout")).code == "CONNECTION_FAILED"


def test_widths_are_per_target_bounded_and_checked() -> None:
    one, two = ({"generator": "rest", "garak_config": {"plugins": {"target_name": name}}} for name in "ab")
    assert target_key(one) != target_key(two)
    assert target_key(one) == target_key(json.loads(json.dumps(one)) | {"probe": "other"})
    widths = Widths()
    widths.learn("t", 8)
    for bad in (0, -1, 10**9, "8", None):
        widths.learn("t", bad)
    assert widths.of("t") == 8
    for number in range(300):
        widths.learn(str(number), 2)
    assert widths.of("t") == 1
