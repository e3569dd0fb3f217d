"""Redaction by allow-list."""

from __future__ import annotations

import time

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
        ("LD_LIBRARY_PATH=/usr/lib:/mnt/secret/cuda", "LD_LIBRARY_PATH=/usr/lib:…/cuda"),
        ("gcc -I/mnt/secret/include -lcuda", "gcc -I…/include -lcuda"),
        ("in /mnt/My Secret/models/x.bin", "in …/x.bin"),
        ("file:///mnt/secret/x.bin", "file:…/x.bin"),
        ("/home/bob and C:\\Users\\bob", "…/[name] and …\\[name]"),
        ("ALICE's alice-venv", "[name]'s [name]-venv"),
        ("bob@gpu7 to 203.0.113.9", "[address] to [address]"),
        ("fe80::1, 2001:db8::7", "[address], [address]"),
        ("gpu7.example.org, build.corp", "[address], [address]"),
        ('{"api_key": "a b", "x": 1} --token abc', '{"api_key": [secret], "x": 1} --token [secret]'),
    ],
)
def test_redacted(words: str, expected: str) -> None:
    assert redact(words) == expected


@pytest.mark.parametrize(
    "words",
    [
        "nvidia-cudnn-cu12 8.9.2.26 is there, 9.1.0.70 is needed",
        "CUDA 10.2.89, nvidia-cublas-cu11==11.10.3.66",
        "5.15.90.1-microsoft-standard-WSL2",
        "31.0.15.3623",
        "00000000:01:00.0 and PCI:0000:3b:00",
        "c10::Error, std::bad_alloc, at::native::add",
        "torch.cuda.is_available(), model.transformer.encoder",
        "libcuda.so.1 => /usr/lib/x86_64-linux-gnu/libcuda.so.1 (0x00007f0e1c000000)",
        "/usr/opt/python@3.11/bin/python3 at 12:34:56",
        "the cache /etc/ld.so.cache and/or the link",
        "https://download.pytorch.org/whl/cu121",
    ],
)
def test_what_tells_nobody_stays(words: str) -> None:
    assert redact(words) == words


@pytest.mark.parametrize(
    "piece", ["a", "/a", "a ", "/a b", "1.", "a.", "a@", "f:", "token", "C:\\a ", "'", "--token", "at 1.2.3.4 "]
)
def test_the_time_grows_with_the_length_alone(piece: str) -> None:
    started = time.process_time()
    redact(piece * (100_000 // len(piece)))
    assert time.process_time() - started < 6


def test_this_machine_is_read_without_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert Redactor.of_this_machine({})("/usr/lib/x") == "/usr/lib/x"
