from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tomas_router.engines.text_stream import TextStream
from tomas_router.features.tokenizer import TextTokenizer

pytestmark = pytest.mark.m5


@pytest.fixture
def tokenizer() -> TextTokenizer:
    """One token a byte, so that every Chinese character takes three."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<end>"])
    return TextTokenizer(raw, "")


def test_stream_when_a_character_needs_several_tokens_gives_whole_characters(tokenizer: TextTokenizer) -> None:
    stream = TextStream(tokenizer)
    pieces = [piece for token in tokenizer.encode(" 会议 ok") for piece in stream.push(token)]
    assert "".join(pieces) == stream.text == "会议 ok"
    assert all("\ufffd" not in piece for piece in pieces)


def test_stream_when_cut_in_a_character_gives_the_rest_at_the_end(tokenizer: TextTokenizer) -> None:
    stream = TextStream(tokenizer)
    pieces = [piece for token in tokenizer.encode("a会")[:-1] for piece in stream.push(token)]
    assert pieces == ["a"]
    assert "".join(stream.rest()).startswith("\ufffd")


def test_stream_when_a_token_has_no_text_ends(tokenizer: TextTokenizer) -> None:
    stream = TextStream(tokenizer)
    assert list(stream.push(tokenizer.encode("a")[0])) == ["a"]
    assert not stream.ended
    assert list(stream.push(256)) == []
    assert stream.ended
