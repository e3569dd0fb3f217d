"""What may become part of a question, and how numbers are set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.cli.conversation import FILE_BYTES, quoted, text_of
from glmcore.cli.settings import SETTINGS, Settings
from glmcore.engine.sampling import Sampling
from glmcore.errors import GlmError

TEXT = "显存不够 out of memory\n\x1b[31mred\x1b[0m\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_text_is_read_in_the_encodings_that_logs_have(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "log").write_bytes(TEXT.replace("\n", "\r\n").encode(encoding))
    assert text_of(tmp_path / "log") == TEXT


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b" \n", "empty"), (b"\x7fELF\2\1\0\0", "no text"), (b"\x89PNG\r\n\x1a\n", "no text"),
     (b"\xff\xfe\x00\xd8", "no text"), (b"a" * (FILE_BYTES + 1), "larger than 4 MiB")],
)  # fmt: skip
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(GlmError, match=words):
        text_of(tmp_path / "file")


@given(st.text(st.sampled_from("`\nab"), max_size=30))
def test_no_file_ends_its_own_fence(text: str) -> None:
    fence = quoted("name", text).splitlines()[-1]
    assert set(fence) == {"`"} and len(fence) >= 3 and fence not in text


def test_nothing_is_changed_by_a_setting_that_makes_no_sense() -> None:
    def sampling(temperature, top_p, seed, **more):
        return Sampling(*(0.8 if value is None else value for value in (temperature, top_p)), seed, **more)

    settings = Settings(SimpleNamespace(sampling=sampling), temperature=0.5, seed=None)
    for name, value in [(name, text) for name in SETTINGS for text in ("-3", "nan", "1e999", "x", "")]:
        if (name, value) == ("seed", "-3"):
            continue
        with pytest.raises(GlmError):
            settings.set(name, value)
        assert settings.given == {"temperature": 0.5}
    settings.set("top_k", "40")
    settings.set("temperature", "default")
    assert settings.given == {"top_k": 40}
    assert "top_k              40" in settings.lines() and "temperature        0.8" in settings.lines("temperature")
