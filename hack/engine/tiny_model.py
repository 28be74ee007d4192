"""A model of random weights that real vLLM serves on a CPU: ``tiny_model.py DIRECTORY``.

Run once while the engine's image is built; nothing is downloaded. The tokenizer is trained on
text that is part of Python itself, so the same versions give the same bytes.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# these exist in the engine's image alone
import torch  # type: ignore[import-not-found]
import transformers  # type: ignore[import-not-found]
from tokenizers import (  # type: ignore[import-not-found]
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)

VOCABULARY = 1024
LONGEST_CONTEXT = 2048
HIDDEN = 64
LAYERS = 2
HEAD = 32  # the smallest that vLLM's CPU attention takes
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ROLES = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|end|>"}
SPECIAL = [*ROLES.values(), "<|system|>", "<|user|>", "<|assistant|>"]


def main(out: Path) -> None:
    """Write tokenizer, configuration and weights as Hugging Face does."""
    out.mkdir(parents=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(out)
    torch.manual_seed(0)
    make_model(tokenizer).to(torch.float32).save_pretrained(out)


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LONGEST_CONTEXT,
        clean_up_tokenization_spaces=False,
        **ROLES,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(tokenizer: transformers.PreTrainedTokenizerFast) -> transformers.LlamaForCausalLM:
    """Two layers of a Llama, 140 thousand parameters."""
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=2 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HIDDEN // HEAD,
            num_key_value_heads=1,
            head_dim=HEAD,
            max_position_embeddings=LONGEST_CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _corpus() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py"))[:60]:
        yield path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
