"""A LoRA adapter for the tiny model, of random weights too: ``tiny_adapter.py DIRECTORY``.

Run once while the engine's image is built, which gives the same bytes each time. In PEFT's format,
which vLLM reads by itself; the answers differ from those of the model alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# these exist in the engine's image alone, and so do the sizes of the model beside this file
import torch  # type: ignore[import-not-found]
from safetensors.torch import save_file  # type: ignore[import-not-found]
from tiny_model import HIDDEN, LAYERS  # type: ignore[import-not-found]

RANK = 8  # the smallest that vLLM takes
MODULE = "down_proj"
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": RANK,
    "lora_alpha": RANK,
    "target_modules": [MODULE],
    "bias": "none",
}


def main(out: Path) -> None:
    """Write configuration and weights as PEFT does."""
    out.mkdir(parents=True)
    torch.manual_seed(1)
    weights = {}
    for layer in range(LAYERS):
        name = f"base_model.model.model.layers.{layer}.mlp.{MODULE}"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, 2 * HIDDEN)
        weights[f"{name}.lora_B.weight"] = torch.randn(HIDDEN, RANK)
    save_file(weights, out / "adapter_model.safetensors")
    (out / "adapter_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
