"""What vLLM said before it ended at its start, as a cause.

The text is a container's termination message: the end of its log, or what our logging
configuration has written. Only the one line that a sign matches is ever quoted, and only of an
engine that had not been ready, so no request can be in it. The lines are vLLM's, PyTorch's and
huggingface_hub's own; tests/controlplane/captures has them as they were seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from endpoint_operator.diagnosis.causes import (
    BAD_ENGINE_ARGUMENT,
    OUT_OF_GPU_MEMORY,
    Cause,
)
from endpoint_operator.diagnosis.quote import quote


@dataclass(frozen=True)
class Sign:
    """A line by which a cause is known, and what to do about it."""

    reason: str
    line: re.Pattern[str]
    advice: str


def _sign(reason: str, line: str, advice: str) -> Sign:
    return Sign(reason, re.compile(line), advice)


SIGNS: Final = (
    _sign(
        OUT_OF_GPU_MEMORY,
        r"OutOfMemoryError: .*out of memory|No available memory for the cache blocks"
        r"|Free memory on device .* is less than desired GPU memory utilization",
        "Use more or larger GPUs (spec.gpu), a smaller or quantized model, or set max-model-len or"
        " gpu-memory-utilization in spec.engine.config.",
    ),
    _sign(
        OUT_OF_GPU_MEMORY,
        r"KV cache is needed, which is larger than the available KV cache memory",
        "Lower max-model-len or raise gpu-memory-utilization in spec.engine.config, or use more or"
        " larger GPUs (spec.gpu).",
    ),
    _sign(
        BAD_ENGINE_ARGUMENT,
        r"^vllm(?: serve)?: error: |validation errors? for ",
        "Correct it in spec.engine.config or spec.engine.args.",
    ),
)


def explain(message: str) -> Cause | None:
    """Return the cause that a termination message tells, if it tells one that is known."""
    lines = message.splitlines()
    for sign in SIGNS:
        if found := next(filter(sign.line.search, lines), None):
            return Cause(sign.reason, f"{quote(found)} {sign.advice}")
    return None
