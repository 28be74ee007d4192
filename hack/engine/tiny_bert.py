"""Models of random weights for the routes that write no text: ``tiny_bert.py EMBED RERANK``.

Run once while the engine's image is built, which gives the same bytes each time. One turns a text
into a vector, the other a pair of texts into a number. Their tokens are single characters: the
trainer of word pieces gives another vocabulary each time.
"""

from __future__ import annotations

import string
import sys
from pathlib import Path

# these exist in the engine's image alone, and so do the sizes of the model beside this file
import torch  # type: ignore[import-not-found]
import transformers  # type: ignore[import-not-found]
from tiny_model import HEAD, HIDDEN, LAYERS  # type: ignore[import-not-found]

LONGEST_CONTEXT = 512
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation


def main(embed: Path, rerank: Path) -> None:
    """Write tokenizer, configuration and weights of both as Hugging Face does."""
    tokenizer = make_tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        max_position_embeddings=LONGEST_CONTEXT,
        pad_token_id=tokenizer.pad_token_id,
        # one number for each pair, which is what makes a model score
        num_labels=1,
        # with the usual one all texts get nearly the same numbers
        initializer_range=0.5,
    )
    classes = {embed: transformers.BertModel, rerank: transformers.BertForSequenceClassification}
    for out, model in classes.items():
        out.mkdir(parents=True)
        tokenizer.save_pretrained(out)
        torch.manual_seed(0)
        model(config).to(torch.float32).save_pretrained(out)


def make_tokenizer() -> transformers.BertTokenizer:
    """A tokenizer that marks which of two texts a character belongs to."""
    pieces = (*SPECIAL, *CHARACTERS, *(f"##{each}" for each in CHARACTERS))
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return transformers.BertTokenizer(vocab=vocabulary, model_max_length=LONGEST_CONTEXT)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
