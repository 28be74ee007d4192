"""Where events end and which of them end an answer, without any socket."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_gateway.sse import MAX_EVENT_BYTES, Stream
from helpers.fake_vllm import DONE, captured_body, delta, event

ERROR = event({"error": {"message": "gone", "type": "x", "param": None, "code": 500}})
ABORT = delta("", finish_reason="abort")


def passed(pieces: list[bytes]) -> tuple[bytes, Stream]:
    stream = Stream()
    return b"".join([*map(stream.feed, pieces), stream.end()]), stream


def cut_everywhere(text: bytes) -> list[list[bytes]]:
    return [[text[:cut], text[cut:]] for cut in range(len(text) + 1)]


ENDS = {
    "success": (delta("a") + DONE, delta("a") + DONE, "finished"),
    "an error": (delta("a") + ERROR + DONE, delta("a") + ERROR, "failed"),
    "an abort": (delta("a") + ABORT + DONE, delta("a") + ABORT, "aborted"),
    "carriage returns": (b"data: 1\r\n\r\ndata: [DONE]\r\n\r\n",) * 2 + ("finished",),
    "no space": (b"data:[DONE]\n\n",) * 2 + ("finished",),
    "no last line end": (b"data: [DONE]", b"data: [DONE]\n\n", "finished"),
    "one line end": (b"data: [DONE]\n", b"data: [DONE]\n\n\n", "finished"),
    "words about ends": (
        delta('"error" [DONE] "abort"') + DONE,
        delta('"error" [DONE] "abort"') + DONE,
        "finished",
    ),
    "after the end": (DONE + delta("a") + ERROR, DONE, "finished"),
    "an error that is a text": (
        event({"error": "gone"}) + DONE,
        b'data: {"error":{"message":"gone","type":"internal","param":null,"code":null}}\n\n',
        "failed",
    ),
}


@pytest.mark.parametrize(("text", "expected", "end"), ENDS.values(), ids=ENDS)
def test_a_stream_ends_as_it_says_wherever_cut(text: bytes, expected: bytes, end: str) -> None:
    for pieces in [*cut_everywhere(text), [text[at : at + 1] for at in range(len(text))]]:
        received, stream = passed(pieces)
        assert received == expected, pieces
        ends = {name for name in ("finished", "failed", "aborted") if getattr(stream, name)}
        assert ends == {end}


@given(st.lists(st.integers(0, 4000), max_size=8))
def test_a_real_stream_passes_unchanged_however_it_is_cut(cuts: list[int]) -> None:
    text = captured_body("chat-stream-usage") + b"\n\n"
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    received, stream = passed([text[a:b] for a, b in itertools.pairwise(bounds)])
    assert received == text
    assert stream.finished


def test_an_event_that_is_too_large_is_passed_on_and_forgotten() -> None:
    stream = Stream()
    large = b"data: " + b"x" * MAX_EVENT_BYTES
    received = stream.feed(large)
    assert len(received) > MAX_EVENT_BYTES - 10
    assert stream.inside_event
    received += stream.feed(b"y\n") + stream.feed(b"\n" + delta("a") + DONE)
    assert received == large + b"y\n\n" + delta("a") + DONE
    assert stream.finished
    assert not stream.inside_event


@pytest.mark.parametrize("word", [b'"error"', b'"abort"', b"[DONE]"])
def test_an_event_that_is_no_text_passes_as_it_is(word: bytes) -> None:
    odd = b'data: {"choices": "\xff\xfe ' + word + b'"}\n\n'
    received, stream = passed([odd, DONE])
    assert received == odd + DONE
    assert stream.finished


@pytest.mark.parametrize("line", [b": keep-alive\n", b": keep-alive\r\n", b":\n", b"\n"])
def test_a_comment_passes_as_soon_as_its_line_is_whole(line: bytes) -> None:
    stream = Stream()
    assert stream.feed(line[:-1]) == b""
    assert stream.feed(line[-1:] + b"da") == line
    assert not stream.inside_event
    assert stream.feed(delta("a")[2:] + line) == delta("a") + line
    assert stream.feed(line) == line


def test_a_comment_inside_an_event_stays_there() -> None:
    stream = Stream()
    assert stream.feed(b"event: x\n: ping\n") == b""
    assert stream.feed(delta("a")) == b"event: x\n: ping\n" + delta("a")


def test_a_comment_after_the_end_is_not_passed() -> None:
    stream = Stream()
    assert stream.feed(DONE + b": ping\n") == DONE


def cpu_seconds(known: int) -> float:
    """Return what it takes to feed an event byte by byte after so many bytes of it."""
    stream = Stream()
    stream.feed(b"x" * known)
    began = time.process_time()
    for _ in range(2000):
        stream.feed(b"x")
    return time.process_time() - began


def test_what_a_byte_costs_does_not_grow_with_what_came_of_its_event_before() -> None:
    small = min(cpu_seconds(100) for _ in range(3))
    large = min(cpu_seconds(MAX_EVENT_BYTES - 5000) for _ in range(3))
    assert large < 10 * small


def test_nothing_is_kept_after_a_whole_event() -> None:
    stream = Stream()
    assert stream.feed(delta("a")) == delta("a")
    assert stream.end() == b""
