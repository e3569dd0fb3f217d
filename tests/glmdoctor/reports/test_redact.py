"""Redaction by allow-list."""

from __future__ import annotations

import pytest

from glmdoctor.reports.redact import Redactor

redact = Redactor("/home/alice", ("alice", "workhorse"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("/home/alice/models/glm", "~/models/glm"),
        ("/home/alice", "~"),
        ("/home/alicent/x", "…/x"),
        ("/mnt/secret-project/models/libcuda.so.1", "…/libcuda.so.1"),
        ("/usr/local/cuda/lib64/libcuda.so", "/usr/local/cuda/lib64/libcuda.so"),
        ("/usrlocal/x/y", "…/y"),
        ("LD_LIBRARY_PATH=/data/a:/usr/lib", "LD_LIBRARY_PATH=…/a:/usr/lib"),
        ("C:\\Users\\alice\\x.dll", "…\\x.dll"),
        ("C:\\Windows\\System32\\nvcuda.dll", "C:\\Windows\\System32\\nvcuda.dll"),
        ("host workhorse is up", "host [name] is up"),
        ("https://huggingface.co/THUDM", "https://huggingface.co/THUDM"),
        ("http://user:pw@proxy.corp:8080/x", "http://[address]"),
        ("alice@example.org", "[address]"),
        ("at 192.168.1.20 and 10.0.0.7", "at [address] and [address]"),
        ("fe80::1ff:fe23:4567:890a", "[address]"),
        ("HF_TOKEN=abc", "HF_TOKEN=[secret]"),
        ("key hf_AbCdEfGhIjKlMnOp", "key [secret]"),
        ("driver 535.183.01, nvidia-cublas 11.10.3.66", "driver 535.183.01, nvidia-cublas 11.10.3.66"),
        ("2.13.0+cpu on 6.1.0-18-amd64", "2.13.0+cpu on 6.1.0-18-amd64"),
    ],
)
def test_redacted(words: str, expected: str) -> None:
    assert redact(words) == expected


def test_this_machine_is_read_without_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert Redactor.of_this_machine({})("/usr/lib/x") == "/usr/lib/x"
