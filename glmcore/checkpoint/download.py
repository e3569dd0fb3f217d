"""Fetches a checkpoint from the hub or a mirror of it: resumed where it stopped, every file verified by its checksum.

The only part of glmcore that uses the network, and only when it is asked to. Imports no torch.
"""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import os
import re
import shutil
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from glmcore.checkpoint.lock import alone
from glmcore.checkpoint.pace import BLOCK, WORTH, blocks, within
from glmcore.errors import GlmError
from glmcore.output import remedy
from glmcore.reading import open_regular, parse_json

ENDPOINT = "https://huggingface.co"
OWNER = "THUDM"  # who published the models that are known by a short name
TIMEOUT = 30.0  # seconds without an answer
ATTEMPTS = 5  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second attempt, then twice as long each time
CONNECTIONS = 50  # that a file may take, and one more for every WORTH bytes that came: what brings less is given up
LISTING_LIMIT = 10_000_000  # bytes; a model's listing has some thousands

COMPANIONS = (
    "config.json", "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "*.model", "vocab.txt",
    "LICENSE*", "MODEL_LICENSE*",
)  # fmt: skip
# The first of these of which the repository has any file is taken.
WEIGHTS = (
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)

Progress = Callable[[int, int], None]  # bytes there, bytes in all


@dataclass(frozen=True)
class RemoteFile:
    """A file of the repository. ``checksum`` is the SHA-256 of an LFS file, else git's SHA-1 of its blob."""

    name: str
    size: int
    checksum: str

    def digest(self, path: Path) -> str:
        """What ``checksum`` is for a file that is whole."""
        lfs = len(self.checksum) == 64
        # Git's own name for a content, no protection: the server is trusted with it as with the content itself.
        hashed = hashlib.sha256() if lfs else hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        with open_regular(path) as file:
            while block := file.read(BLOCK):
                hashed.update(block)
        return hashed.hexdigest()

    def is_at(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_size == self.size and self.digest(path) == self.checksum


def download(
    name: str,
    folder: str | Path,
    *,
    only: Collection[str] = (),
    endpoint: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch the checkpoint ``name`` ("chatglm2-6b" or "owner/name") into ``folder``; what is there already is kept.

    only: these files alone. endpoint: in place of the hub, else HF_ENDPOINT. A token is taken from HF_TOKEN.
    Errors: GlmError("download-failed"), ("write-failed"), ("usage").
    """
    hub = _Hub(endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT, _repository(name))
    revision, files = hub.listing(only)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        total = sum(file.size for file in files)
        missing = [file for file in files if not _present(file, folder)]
        _check_room(folder, missing)
        with alone(folder) if missing else nullcontext():
            # Another run may have brought them between the two looks.
            missing = [file for file in missing if not file.is_at(folder / file.name)]
            done = total - sum(file.size for file in missing)
            for file in missing:
                hub.fetch(file, revision, folder, lambda count, at=done: _tell(progress, at + count, total))
                done += file.size
    except OSError as error:
        what = f"could not write: {error.strerror or error}"
        raise GlmError("write-failed", what, where=str(folder), hint=remedy(error)) from error
    _tell(progress, total, total)
    return folder


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _repository(name: str) -> str:
    # The models of April 2025 are the only ones whose repositories are written in capitals.
    repository = name if "/" in name else f"{OWNER}/{name.upper() if name.endswith('-0414') else name}"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository, re.ASCII):
        raise GlmError("usage", f"{name!r} is no name of a model", hint="write for example chatglm2-6b or owner/name")
    return repository


def choose(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """The files that the runtime needs: no code, no pictures, and the weights in one format only."""
    found = sorted(files, key=lambda file: file.name)
    weights = next((group for group in WEIGHTS if any(_matches(file.name, group[:1]) for file in found)), ())
    return [file for file in found if _matches(file.name, (*COMPANIONS, *weights))]


def _named(files: Iterable[RemoteFile], only: Collection[str]) -> list[RemoteFile]:
    return [file for file in files if file.name in only and _matches(file.name, "*")]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    # A name from the network: files of subfolders, and whatever could lead out of the folder, are left alone.
    return bool(re.fullmatch(r"[\w-][\w.-]*", name, re.ASCII)) and any(fnmatch.fnmatchcase(name, p) for p in patterns)


def _present(file: RemoteFile, folder: Path) -> bool:
    path = folder / file.name
    if not path.exists():
        return False
    if file.is_at(path):
        return True
    raise GlmError(
        "write-failed", f"{file.name} is there already and is another file", where=str(folder),
        hint="move it away, or choose another folder",
    )  # fmt: skip


def _check_room(folder: Path, missing: Iterable[RemoteFile]) -> None:
    needed = sum(file.size - _size(_part(folder, file)) for file in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"{needed / 1e9:.1f} GB are to come and {free / 1e9:.1f} GB are free"
        raise GlmError("write-failed", what, where=str(folder), hint="make room, or choose another disk with -o")


def _part(folder: Path, file: RemoteFile) -> Path:
    """Where a file is gathered; its checksum in the name keeps the pieces of two revisions apart."""
    return folder / f".{file.name}.{file.checksum[:12]}.part"


def _size(part: Path) -> int:
    try:
        return part.lstat().st_size
    except FileNotFoundError:
        return 0


def _open_part(part: Path) -> BinaryIO:
    """The part, to be written; a link that somebody has laid at its place leads to another's file and is refused."""
    flags = os.O_RDWR | os.O_CREAT | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    status = part.lstat() if os.path.lexists(part) else None
    if status is None or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1):
        file = open(os.open(part, flags, 0o666), "r+b")  # noqa: SIM115
        if os.fstat(file.fileno()).st_nlink == 1:
            return file
        file.close()
    raise GlmError(
        "write-failed", f"{part.name} is no file of an earlier download", where=str(part.parent),
        hint="take it away, or choose another folder",
    )  # fmt: skip


class _Hub:
    """One repository at one endpoint."""

    def __init__(self, endpoint: str, repository: str) -> None:
        self.endpoint, self.repository = endpoint.rstrip("/"), repository
        if urllib.parse.urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise GlmError("usage", f"{endpoint!r} is no address", hint="write for example https://hf-mirror.com")

    def listing(self, only: Collection[str] = ()) -> tuple[str, list[RemoteFile]]:
        """The newest revision, and its files that are needed (or those in ``only``)."""
        url = f"{self.endpoint}/api/models/{self.repository}/revision/main?blobs=true"
        text = self._patiently(url, lambda: self._text(url))
        try:
            described = parse_json(text)
            revision = described["sha"]
            files = [_remote_file(entry) for entry in described["siblings"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._error("the answer is no listing of a model", url) from None
        if not isinstance(revision, str) or not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise self._error("the listing names no revision", url)
        found = [file for file in files if file is not None]
        needed = _named(found, only) if only else choose(found)
        if only and len(needed) < len(set(only)):
            absent = sorted(set(only) - {file.name for file in needed})
            raise self._error(f"{self.repository} has no {', '.join(absent)}", url, "compare the names with its page")
        if not only and not any(file.name == "config.json" for file in needed):
            raise self._error("the repository holds no checkpoint: config.json is not in it", url)
        return revision, needed

    def fetch(self, file: RemoteFile, revision: str, folder: Path, progress: Callable[[int], None]) -> None:
        """Bring one file, going on after what an earlier run left; it appears once it is whole and verified."""
        part = _part(folder, file)
        url = f"{self.endpoint}/{self.repository}/resolve/{revision}/{urllib.parse.quote(file.name)}"
        if _size(part) > file.size:
            part.unlink()
        had, connections = _size(part), 0
        while _size(part) < file.size or not part.exists():
            came = _size(part) - had
            if connections >= CONNECTIONS + came // WORTH:
                raise self._error(f"the connection was cut {connections} times and brought {came} bytes", url)
            self._patiently(url, lambda: self._piece(url, part, file, progress))
            connections += 1
        if file.digest(part) != file.checksum:
            part.unlink()
            raise self._error(f"{file.name} arrived damaged: its checksum is not the published one", url)
        os.replace(part, folder / file.name)

    def _piece(self, url: str, part: Path, file: RemoteFile, progress: Callable[[int], None]) -> None:
        """Append what one connection brings; returns early where it is cut after bringing more."""
        have = _size(part)
        with self._open(url, have) as response:
            if response.headers.get_content_type() == "text/html":
                raise self._error(f"a web page came in place of {file.name}", url)
            at = have if response.status == 206 else 0  # any other server begins again; what is there stays till then
            with _open_part(part) as out:
                out.seek(at)
                came = at
                for block in blocks(response, file.size - at):
                    out.write(block)
                    came += len(block)
                    progress(max(came, have))
        if came <= have and came < file.size:
            always = ", and this server cannot go on where it was" if have and not at else ""
            raise ConnectionError(f"the connection was cut {ATTEMPTS} times before it brought anything new{always}")

    def _text(self, url: str) -> str:
        with self._open(url) as response:
            return b"".join(blocks(response, LISTING_LIMIT)).decode("utf-8", "replace")

    def _open(self, url: str, start: int = 0) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "glmcore"})  # noqa: S310 (the scheme is checked)
        if start:
            request.add_header("Range", f"bytes={start}-")
        if token := os.environ.get("HF_TOKEN"):
            # Not sent on to where the hub redirects.
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return within(lambda: urllib.request.urlopen(request, timeout=TIMEOUT))  # noqa: S310

    def _patiently(self, url: str, action: Callable[[], Any]) -> Any:
        """Try again, with longer and longer pauses, after what may pass: cut connections and a busy server."""
        for attempt in range(ATTEMPTS):
            try:
                return action()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code != 429:
                    raise self._refusal(error.code, url) from None
                what = f"the server answers {error.code}"
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                what = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt + 1 < ATTEMPTS:
                time.sleep(PAUSE * 2**attempt)
        raise self._error(f"{urllib.parse.urlsplit(url).hostname} cannot be reached: {what}", url)

    def _refusal(self, status: int, url: str) -> GlmError:
        if status == 404:
            return self._error(f"{self.repository} or a file of it is not there", url, "compare the name with its page")
        if status in (401, 403):
            return self._error(
                f"{self.repository} does not exist or is not open to everybody", url, "compare the name; set HF_TOKEN"
            )
        return self._error(f"the server answers {status}", url)

    def _error(self, what: str, url: str, hint: str = "") -> GlmError:
        hint = hint or "run it again, it goes on from here; --endpoint or HF_ENDPOINT names a mirror"
        return GlmError("download-failed", what, where=url, hint=hint)


def _remote_file(entry: dict[str, Any]) -> RemoteFile | None:
    """A file of the listing; None where its size or checksum is missing."""
    lfs = entry.get("lfs") or {}
    checksum, size = lfs.get("sha256") or entry.get("blobId"), lfs.get("size", entry.get("size"))
    if not isinstance(size, int) or size < 0 or not re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", str(checksum)):
        return None
    return RemoteFile(str(entry["rfilename"]), size, str(checksum))
