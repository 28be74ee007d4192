"""What vLLM said before it ended at its start, as a cause.

The text is a container's termination message: what ``desired/inside/sitecustomize.py`` has noted,
or the end of the log. Only what a sign matches is ever quoted, and only of an engine that had not
been ready. The lines are those of vLLM, PyTorch, transformers and huggingface_hub;
tests/controlplane/captures has them as they were seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from endpoint_operator.diagnosis.causes import (
    BAD_ENGINE_ARGUMENT,
    GPU_UNUSABLE,
    IMAGE_UNUSABLE,
    MODEL_NOT_FOUND,
    MODEL_UNAUTHORIZED,
    MODEL_UNREACHABLE,
    MODEL_UNUSABLE,
    OUT_OF_GPU_MEMORY,
    OUT_OF_MEMORY,
    VOLUME_FULL,
    Cause,
)
from endpoint_operator.diagnosis.quote import sentence


@dataclass(frozen=True)
class Sign:
    """Words by which a cause is known, what they mean, and what to do."""

    reason: str
    meaning: str
    advice: str
    words: re.Pattern[str]

    def cause(self, words: str) -> Cause:
        """Return the cause that was told in these words; none if they must not be told."""
        said = f": {sentence(words)}" if words else "."
        return Cause(self.reason, f"{self.meaning}{said} {self.advice}")


def sign(reason: str, meaning: str, advice: str, *words: str) -> Sign:
    """Return a sign that any of some regular expressions is."""
    return Sign(reason, meaning, advice, re.compile("|".join(words), re.MULTILINE))


SIGNS: Final = (
    sign(
        OUT_OF_GPU_MEMORY,
        "The model does not fit on the GPUs",
        "Use more or larger GPUs (spec.gpu) or a smaller or quantized model, or set max-model-len"
        " or gpu-memory-utilization in spec.engine.config.",
        r"(?:CUDA|HIP|XPU) out of memory(?:\. Tried to allocate [\d.]+ \w+)?"
        r"(?:\. GPU \d+ has a total capacity of [\d.]+ \w+)?",
    ),
    sign(
        OUT_OF_GPU_MEMORY,
        "The weights leave no memory for the KV cache",
        "Use more or larger GPUs (spec.gpu) or a smaller or quantized model, or raise"
        " gpu-memory-utilization in spec.engine.config.",
        r"No available memory for the cache blocks",
    ),
    sign(
        OUT_OF_GPU_MEMORY,
        "The KV cache has no room for one request of the longest kind",
        "Lower max-model-len or raise gpu-memory-utilization in spec.engine.config, or use more or"
        " larger GPUs (spec.gpu).",
        r"max seq len \(\d+\), \([^)]* KV cache is needed, which is larger than the available KV"
        r" cache memory \([^)]*\)(?:\. Based on the available memory, the estimated maximum model"
        r" length is \d+)?",
        r"max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV"
        r" cache \(\d+\)",
    ),
    sign(
        OUT_OF_GPU_MEMORY,
        "Something else uses the GPU's memory",
        "Free the GPU, or lower gpu-memory-utilization in spec.engine.config.",
        r"Free memory on device .*? is less than desired GPU memory utilization \([^)]*\)",
    ),
    sign(
        OUT_OF_MEMORY,
        "The memory (RAM) is not enough",
        "Set gpu-memory-utilization, which on CPUs is the share of RAM, or kv-cache-memory-bytes in"
        " spec.engine.config, or give the engine more: spec.resources.limits.memory.",
        r"Available memory on node .*? is less than [\w ]+\([^)]*\)",
    ),
    sign(
        OUT_OF_MEMORY,
        "A process of the engine was killed, mostly for want of memory (RAM)",
        "Raise spec.resources.requests.memory and spec.resources.limits.memory, or choose a smaller"
        " model.",
        r"Failed core proc\(s\): \{[^}]*: -9\}",
        # noted first: the process that it is about had no time to note anything
        r"\AException: WorkerProc initialization failed.*\(in \w+\)",
    ),
    sign(
        GPU_UNUSABLE,
        "The engine can't use a GPU",
        "spec.engine.image must be built for the node's GPUs and driver (for spec.gpu.count 0, for"
        " CPUs), and the node's GPU driver must work.",
        r"Failed to infer device type",
        r"No CUDA GPUs are available",
        r"Found no NVIDIA driver on your system",
        r"The NVIDIA driver on your system is too old",
        r"CUDA driver version is insufficient for CUDA runtime version",
        r"no kernel image is available for execution on the device",
    ),
    sign(
        IMAGE_UNUSABLE,
        "The image does not start vLLM",
        "spec.engine.image must be an image of vLLM for the nodes' architecture.",
        r"exec: (?:line \d+: )?vllm: .*(?:not found|denied)",
        r"exec format error",
    ),
    sign(
        IMAGE_UNUSABLE,
        "The image lacks what spec.model.source needs",
        "Use an image of vLLM that can read buckets (vllm[runai]).",
        r"No module named 'runai_model_streamer\w*'",
        r"\w+ files module not found",
    ),
    sign(
        VOLUME_FULL,
        "A volume of the engine is full",
        "Give the model a larger one: spec.model.cache.size, or where it is your own claim"
        " (claimName), that claim.",
        r"\[Errno 28\] No space left on device(?:: '[^']*')?",
        r"Not enough free disk space to download the file",
    ),
    sign(
        MODEL_UNAUTHORIZED,
        "Access to the model is refused",
        "Name a Secret with a token that has been granted access in spec.model.tokenSecretRef.",
        r"Access to model \S+ is restricted[^.]*",
        r"trying to access a gated repo(?:\. Make sure to have access to it at \S+)?",
        r"Invalid credentials in Authorization header",
    ),
    sign(
        MODEL_UNAUTHORIZED,
        "Access to the bucket is refused",
        "Give the engine credentials for it, in spec.engine.env or by the pod's service account.",
        r"Unable to locate credentials",
        r"Your default credentials were not found",
        r"An error occurred \((?:403|AccessDenied|ExpiredToken|InvalidAccessKeyId"
        r"|SignatureDoesNotMatch)\) when calling the \w+ operation",
    ),
    sign(
        MODEL_NOT_FOUND,
        "There is no such adapter",
        "Correct spec.model.adapters.",
        r"Loading lora \S+ failed: No adapter found for \S+",
    ),
    sign(
        MODEL_NOT_FOUND,
        "There is no such revision",
        "Correct spec.model.revision.",
        r"\S+ is not a valid git identifier",
        r"Revision Not Found for url: \S+",
    ),
    sign(
        MODEL_NOT_FOUND,
        "There is no such model",
        "Correct spec.model.source; a private repository needs a token"
        " (spec.model.tokenSecretRef).",
        r"\S+ is not a local folder and is not a valid model identifier",
        r"Repository Not Found for url: \S+",
        r"(?<=Repo id must be in the form 'repo_name' or 'namespace/repo_name': )'[^']*'",
        r"Invalid repository ID or local directory specified: '[^']*'",
        r"Cannot find an appropriate cached snapshot folder[\w ]*",
        r"An error occurred \((?:404|NoSuchBucket|NoSuchKey)\) when calling the \w+ operation",
    ),
    sign(
        MODEL_UNREACHABLE,
        "The hub or the bucket can't be reached from the engine",
        "Look at DNS, proxies and network policies between the pod and it.",
        r"We couldn't connect to '[^']*'",
        r"An error happened while trying to locate the file on the Hub",
        r"Could not connect to the endpoint URL: \"[^\"]*\"",
        r"(?:Client|Server) error '(?:429|5\d\d) [^']*' for url '[^']*'",
    ),
    sign(
        MODEL_UNUSABLE,
        "vLLM can't load the model",
        "Choose another model (spec.model.source), a newer vLLM (spec.engine.image), or repair the"
        " model's files.",
        r"Model architectures \[[^\]]*\] (?:are not supported for now|failed to be inspected)",
        r"model type `[^`]*` but Transformers does not recognize this architecture",
        r"Cannot find any model weights with `[^`]*`",
        r"SafetensorError: .*",
        r"MemoryError:.*\(in parse_safetensors_file_metadata\)",
        r"Couldn't instantiate the backend tokenizer",
        r"\S+ does not appear to have a file named \S+",
        r"start \(\d+\) \+ length \(\d+\) exceeds dimension size \(\d+\)",
        r"There is no module or parameter named '[^']*' in \w+",
    ),
    sign(
        BAD_ENGINE_ARGUMENT,
        "vLLM refuses an option",
        "Correct it in spec.engine.config or spec.engine.args.",
        r"(?<=vllm: error: ).+",
        r"(?<=vllm serve: error: ).+",
        r"(?<=VLLMValidationError: ).+",
        r"(?<=Value error, ).+?(?= \[type=|$)",
    ),
    sign(
        BAD_ENGINE_ARGUMENT,
        "vLLM refuses its configuration",
        "Correct it in spec.engine.config or spec.engine.args.",
        r"(?<=validation error for )\w+ .+?(?= \[type=|$)",
        r"(?<=validation errors for )\w+ .+?(?= \[type=|$)",
    ),
)

_EXCEPTION: Final = re.compile(r"(?:^|(?<=[\])] ))(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b.*")
_POINTS_ELSEWHERE: Final = re.compile(
    r"root cause|stack trace|background process|Engine core initialization failed"
)


def explain(message: str, signs: Sequence[Sign] = SIGNS, *, quoted: bool = True) -> Cause | None:
    """Return the cause that a message tells, if it tells one that is known."""
    for each in signs:
        if found := each.words.search(message):
            return each.cause(found[0] if quoted else "")
    return None


def error(message: str) -> str:
    """Return the first error in the text that does not only point at another one."""
    errors = (found[0] for line in message.splitlines() if (found := _EXCEPTION.search(line)))
    return next((each for each in errors if not _POINTS_ELSEWHERE.search(each)), "")
