"""What is read of a body: the two readers agree with each other and with Python's own parser."""

from __future__ import annotations

import contextlib
import json
import sys
import tracemalloc
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from types import FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from endpoint_gateway.affinity import affinity_of
from endpoint_gateway.errors import InvalidRequest
from endpoint_gateway.peek import (
    MAX_MEMBERS,
    MAX_MODEL_LETTERS,
    Peeked,
    is_plain,
    peek,
    scan,
    state_asked_for,
)
from endpoint_gateway.rewriting import NO_RULES, Rules, rewrite
from helpers.tree import ROOT

OURS = ("model", "stream", "stream_options")
names = st.sampled_from([*OURS, "messages", "x", 'mod"el', "", "é", "\\", "]", "{"])
# the letters that a reader could stumble over
texts = st.text(st.sampled_from('ab"\\{}[]:,\n/é€\U0001f600'), max_size=8)
leaves = st.none() | st.booleans() | st.integers() | texts | names
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
models = st.none() | texts | names


@st.composite
def strings(draw: st.DrawFn, text: str) -> str:
    """Spell a JSON string, each letter plainly or as an escape."""
    spelt = draw(st.booleans())
    if not spelt:
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    escaped = [
        f"\\u{ord(letter):04x}"
        if ord(letter) < 0x10000 and draw(st.booleans())
        else json.dumps(letter)[1:-1]
        for letter in text
    ]
    return '"' + "".join(escaped) + '"'


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Write a JSON object whose keys may be there twice and may be spelt in any way."""
    members = []
    for name in draw(st.lists(names, max_size=5)):
        value: Any
        if name == "model":
            value = draw(models)
        elif name == "stream":
            value = draw(st.none() | st.booleans())
        else:
            value = draw(values)
        text = draw(strings(value)) if isinstance(value, str) else json.dumps(value)
        space = draw(st.sampled_from(["", " ", "\n\t"]))
        members.append(f"{draw(strings(name))}{space}:{space}{text}{space}")
    return ("{" + ",".join(members) + "}").encode()


def pairs_of(body: bytes) -> list[tuple[str, Any]]:
    """Return the members of the top level, as Python's own parser sees them."""
    return list(json.loads(body, object_pairs_hook=list))


@given(bodies())
@example(b'{"messages":[{"model":"a","stream":true}],"model":"b"}')
@example(b'{"x":"\\"model\\":\\"a\\"","model":"b"}')
@example(b'{"x":"model","model":"b"}')
@example(b'{"\\u006dodel":"b"}')
@example(b'{"x":"\\\\u006d","model":"b"}')
def test_a_body_is_read_as_pythons_parser_reads_it(body: bytes) -> None:
    pairs = pairs_of(body)
    ours = [name for name, _ in pairs if name in OURS]
    if len(set(ours)) < len(ours):
        with pytest.raises(InvalidRequest):
            peek(body)
        return
    content = dict(pairs)
    peeked = peek(body)
    assert peeked.model == content.get("model")
    assert peeked.stream is bool(content.get("stream"))
    if peeked.model is None:
        assert peeked.model_span is None
    else:
        assert peeked.model_span is not None
        start, end = peeked.model_span
        assert json.loads(body[start:end]) == peeked.model


@given(bodies())
def test_the_two_readers_agree_wherever_the_fast_one_is_believed(body: bytes) -> None:
    if is_plain(body):
        assert peek(body).model_span == scan(body)


def with_model(body: bytes, peeked: Peeked, model: str) -> bytes:
    return rewrite(body, peeked, NO_RULES, model=model).body


@given(bodies(), texts)
def test_another_model_changes_that_value_and_no_other_byte(body: bytes, model: str) -> None:
    try:
        peeked = peek(body)
    except InvalidRequest:
        return
    if peeked.model_span is None:
        assert with_model(body, peeked, model) is body
        return
    start, end = peeked.model_span
    changed = with_model(body, peeked, model)
    assert changed.startswith(body[:start])
    assert changed.endswith(body[end:])
    assert dict(pairs_of(changed)) == {**dict(pairs_of(body)), "model": model}


@given(st.binary(max_size=40))
def test_no_bytes_make_anything_but_an_answer_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(peek(body), Peeked)


# what a reader that looks for other things passes over
ODD = (b'"\xff"', b"1e400", b"9" * 30, b'{"\xff":1}', b'[{"role":"\xff"}]')
ODD_MEMBERS = st.dictionaries(
    st.sampled_from([b"background", b"conversation", b"stream_options", b"messages", b"prompt"]),
    st.sampled_from(ODD),
)


@given(ODD_MEMBERS)
def test_what_is_passed_over_makes_no_reader_fail(odd: dict[bytes, bytes]) -> None:
    more = b"".join(b',"%s":%s' % each for each in odd.items())
    body = b'{"model":"a","stream":true%s}' % more
    assert peek(body).model == "a"
    state_asked_for(body)
    affinity_of(body, "a")
    with contextlib.suppress(InvalidRequest):
        assert peek(rewrite(body, peek(body), Rules(counts=True), model="b").body).model == "b"


def test_unusual_bytes_around_the_model_stay_as_they_are() -> None:
    body = b' {\r\n"a" : 1e400 , "model"\t:\n "\\u0061\xc3\xa9" ,"b":[ ] , "c":-0.0}\n'
    peeked = peek(body)
    assert peeked.model == "a\u00e9"
    expected = b' {\r\n"a" : 1e400 , "model"\t:\n "tiny" ,"b":[ ] , "c":-0.0}\n'
    assert with_model(body, peeked, "tiny") == expected


def from_source(name: str) -> ModuleType:
    """Return a module of the gateway as it is before it is compiled."""
    path = ROOT / "gateway" / "endpoint_gateway" / f"{name}.py"
    spec = spec_from_file_location(f"endpoint_gateway.{name}_source", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = from_source("peek")
MANY = 100_000
BEGIN = b'{"model":"tiny","y":{"model":1},'
LARGE = {
    "brackets": BEGIN + b'"x":[' + b"[]," * MANY + b"1]}",
    "objects": BEGIN + b'"x":[' + b'{"a":"b"},' * MANY + b"1]}",
    "numbers": BEGIN + b'"x":[' + b"1," * MANY + b"1]}",
    "escapes": BEGIN + b'"x":"' + b"\\n" * MANY + b'"}',
    "our own keys": BEGIN + b'"x":[' + b'{"model":"x"},' * MANY + b"1]}",
    "white space": BEGIN + b" " * MANY + b'"x":1}',
    "a long key": BEGIN + b'"' + b"\\n" * MANY + b'":1}',
}


def steps_of(call: Callable[[], object]) -> int:
    """Count the functions, ours and C's, that a call calls."""
    steps = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return steps


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_a_large_body_takes_neither_steps_nor_memory(body: bytes) -> None:
    assert peek(body).model == "tiny"
    # of what is compiled only some steps can be counted
    assert steps_of(lambda: SOURCE.peek(body)) < 300
    tracemalloc.start()
    try:
        peek(body)
        assert tracemalloc.get_traced_memory()[1] < len(body) + 10_000
    finally:
        tracemalloc.stop()


def test_a_long_model_is_refused_before_it_is_looked_for() -> None:
    longest = b"m" * MAX_MODEL_LETTERS
    assert peek(b'{"model":"%s"}' % longest).model == longest.decode()
    with pytest.raises(InvalidRequest) as refused:
        peek(b'{"model":"%sm"}' % longest)
    assert refused.value.param == "model"


def test_more_members_than_a_request_can_have_are_refused() -> None:
    def body(count: int) -> bytes:
        return b'{"y":{"model":1},"model":"a"' + b',"x":1' * (count - 2) + b"}"

    assert peek(body(MAX_MEMBERS)).model == "a"
    with pytest.raises(InvalidRequest):
        peek(body(MAX_MEMBERS + 1))
