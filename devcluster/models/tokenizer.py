"""A byte-level tokenizer without merges: a token is a byte or one of a few special marks."""

from __future__ import annotations

from typing import Any

SPECIALS = ("<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<pad>", "<|unused_0|>", "<|unused_1|>")
BYTES = 256
BOS, EOS, USER, ASSISTANT, SYSTEM, PAD = range(BYTES, BYTES + 6)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def encode(text: str) -> list[int]:
    """Return the tokens of plain text, without the begin mark."""
    return list(text.encode())


def tokenizer_json() -> str:
    """Return ``tokenizer.json`` as the ``tokenizers`` library writes it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE(vocab={_visible(byte): byte for byte in range(BYTES)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIALS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    return str(tokenizer.to_str(pretty=True))


def tokenizer_config() -> dict[str, Any]:
    """Return ``tokenizer_config.json``, chat template included."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "model_max_length": 131072,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": True,
        "chat_template": CHAT_TEMPLATE,
    }


def _visible(byte: int) -> str:
    """Return the printable character that stands for a byte in byte-level vocabularies (GPT-2's table)."""
    if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:  # noqa: PLR2004
        return chr(byte)
    hidden = [b for b in range(BYTES) if not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255)]  # noqa: PLR2004
    return chr(BYTES + hidden.index(byte))
