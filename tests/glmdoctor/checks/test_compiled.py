"""What the doctor says of a compiled engine's files, in both languages."""

from __future__ import annotations

from typing import Any

from glmdoctor.checks.compiled import compiled
from glmdoctor.host.facts import Engine, EngineFile


def test_what_is_wrong_with_a_file_is_said_in_the_readers_language(cpu_machine: Any) -> None:
    files = (
        EngineFile("/e/a", 2, "", fault="missing"),
        EngineFile("/e/b", 2, "", fault="has 1 bytes of 2", found=1),
        EngineFile("/e/c", 2, "", fault="has changed"),
        EngineFile("/e/d", 2, "", fault="cannot be read: Permission denied"),
        EngineFile("/e/e", 2, ""),
    )
    found = next(compiled(cpu_machine.having(engine=Engine("/e", torch="none", files=files))))
    said = "/e/a is missing; /e/b has 1 bytes of 2; /e/c has changed; /e/d: cannot be read: Permission denied."
    assert found.problem == "engine-damaged" and found.detail.render("en").endswith(said)
    assert "/e/a 缺失；/e/b 有 1 字节，应为 2 字节；/e/c 已被改动；" in found.detail.render("zh")
    assert list(found.evidence["files"]) == ["/e/a", "/e/b", "/e/c", "/e/d"]
