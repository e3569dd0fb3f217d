"""Whatever a machine is called and whoever uses it: no report for others, and no snapshot, says so."""

from __future__ import annotations

import dataclasses
import html as html_module
import importlib
import ipaddress
import json
import re
import string
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor import people
from glmdoctor.actions.change import Change
from glmdoctor.actions.disk import Node
from glmdoctor.actions.files import WriteFile
from glmdoctor.actions.packages import InstallPackages
from glmdoctor.diagnosis import Diagnosis
from glmdoctor.findings import Finding, Remedy, Report, Status
from glmdoctor.host import facts, snapshot
from glmdoctor.host.host import Host
from glmdoctor.messages import text
from glmdoctor.remedies import Plan
from glmdoctor.repair.executor import Prepared
from glmdoctor.reports import repairs
from glmdoctor.reports.redact import Redactor

FOR_OTHERS = ("markdown", "html", "junit", "github")
LETTERS = string.ascii_lowercase + string.digits
# The marks keep what is drawn apart from the words of the report itself.
names = st.text(LETTERS, min_size=2, max_size=12)
folders = st.builds(
    "qx{}".format, st.text(LETTERS + "_.+-", min_size=1, max_size=10).filter(lambda x: x[-1] in LETTERS)
)
chinese = st.sampled_from(["张三的项目", "机密", "数据盘"])
keys = st.builds(
    "{}{}".format,
    st.sampled_from(["hf_", "sk-", "sk-proj-", "ghp_", "github_pat_", "glpat-", "nvapi-", "AIza", "xoxb-"]),
    st.text(string.ascii_letters + string.digits, min_size=20, max_size=36),
)
passwords = st.text(string.ascii_letters + string.digits + "!#%*+.-_", min_size=9, max_size=20).map("pw{}".format)
ipv4 = st.ip_addresses(v=4).filter(lambda a: not a.is_loopback and not a.is_unspecified).map(str)
ipv6 = st.one_of(st.ip_addresses(v=6, network=ipaddress.ip_network(n)) for n in ("2000::/3", "fe80::/10", "fc00::/7"))
domains = st.builds(
    "{}.{}".format, names, st.sampled_from(["com", "example.org", "corp", "internal", "local", "edu.cn"])
)
mails = st.builds(
    "zm{}@{}".format,
    names,
    st.one_of(domains, st.sampled_from(["163.com", "126.com", "qq.com"]), names.map("zq{}".format)),
)

uuids = st.uuids().map(str)
cards = st.one_of(uuids, uuids.map(lambda uuid: uuid[:13]).filter(lambda part: any(c.isdigit() for c in part)))
serials = st.builds("9{}".format, st.text(string.digits, min_size=9, max_size=14))
remotes = st.builds("team{}/zp{}.git".format, names, names)

AROUND_CARD = (
    *("CUDA_VISIBLE_DEVICES=GPU-{}", "MIG-{} is busy", "GPU 0: NVIDIA A100 (UUID: GPU-{})", "'0,GPU-{}'"),
    "MIG-GPU-{}/1/0",
)
AROUND_SERIAL = ("Serial Number : {}", "serial={}", "Board ID: {}", "machine-id: {}", "Asset Tag: {}")
AROUND_SIGNED = ("https://pypi.org/simple?sig={}&x=1", "https://huggingface.co/x?X-Amz-Signature={}")
AROUND_REMOTE = ("origin git@github.com:{}", "scp zb@zhost:{} .", "ssh://git@zhost.lan/{}", "git+https://zhost.lan/{}")
AROUND_HOST = (
    *("HF_ENDPOINT=https://{}", "https://me:pw123456x@{}/simple", "--index-url http://{}:8080/x", "mirror {} is down"),
    "wss://{}/socket",
)
PUT_TOGETHER = ("cuda-{}", "{}_env", "venv-{}", "grp.{}", "/opt/conda/envs/{}-glm", "users-{}:x", "/data/home/{}/x")

AROUND_ADDRESS = (
    "refused by {}",
    "{}:8080 is closed",
    "http://{}/simple",
    "inet {} up",
    "({})",
    "host={}",
    "peer {} left",
)
AROUND_KEY = (
    "key {}",
    "Authorization: Bearer {}",
    '{{"token": "{}"}}',
    "--token {}",
    "HF_TOKEN={}",
    "https://x:{}@github.com/y",
)
AROUND_PASSWORD = ("password={}", "MY_API_KEY: {}", "--password {} -v", '"secret": "{}"', "https://me:{}@github.com/y")
AROUND_PATH = (
    *("no {} here", "'{}'", "-I{} -lcuda", "cc -L{}", "PATH=/usr/bin:{}:/bin"),
    *("file://{}", "{}: No such file", "({})", "dlopen({}, 2)"),
)
PLACES = ("/mnt", "/home", "/data", "/Users", "/run/media")
PLACES_OF_WINDOWS = ("D:", "C:\\Users", "\\\\server")


def around(templates: tuple[str, ...], values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[str, list[str]]]:
    """A sentence, and what of it must not be seen."""
    return st.builds(lambda template, value: (template.format(value), [str(value)]), st.sampled_from(templates), values)


@st.composite
def on_a_path(draw: st.DrawFn) -> tuple[str, list[str]]:
    """All folders of a path are private, its last part is not; blanks and Chinese occur."""
    folder = st.one_of(folders, chinese, st.builds("{} {}".format, folders, folders))
    inner = draw(st.lists(folder, min_size=1, max_size=3))
    windows = draw(st.booleans())
    top = draw(st.sampled_from(PLACES_OF_WINDOWS if windows else PLACES))
    path = ("\\" if windows else "/").join([top, *inner, "libcuda.so"])
    template = "'{}'" if windows else draw(st.sampled_from(AROUND_PATH))
    return template.format(path), [word for part in inner for word in part.split()]


@dataclasses.dataclass(frozen=True)
class Somebody:
    user: str
    host: str
    sentences: list[tuple[str, list[str]]]


@st.composite
def somebody(draw: st.DrawFn, *, paths: bool) -> Somebody:
    user, host = f"zu{draw(names)}", f"zh{draw(names)}"
    kinds = [
        around(AROUND_ADDRESS, ipv4),
        around(("inet6 {}", "[{}]:80", "at {}"), ipv6),
        around(("by {}", "<{}>", "mail {}, please"), mails),
        around(AROUND_KEY, keys),
        around(AROUND_PASSWORD, passwords),
        around(("user {} is new", "{}'s shell", "owned by {}:{}".replace(":{}", ":staff")), st.just(user)),
        around(("on {}: up", "{} login:", "ssh {}", "{}.lan is up"), st.just(host)),
        around(AROUND_CARD, cards),
        around(("boot {}", "UUID={} /data ext4", "{}: gone"), uuids),
        around(AROUND_SERIAL, serials),
        around(AROUND_SIGNED, keys.map(lambda key: key.replace("_", "x").replace("-", "y"))),
        around(AROUND_REMOTE, remotes),
        around(AROUND_HOST, domains),
        around(PUT_TOGETHER, st.just(user)),
    ]
    more = [on_a_path(), around(("ssh {}",), domains)] if paths else []
    return Somebody(user, host, [draw(kind) for kind in (*kinds, *more)])


def machine(who: Somebody) -> Host:
    home = f"/home/{who.user}"
    site = f"{home}/venv/lib/python3.11/site-packages"
    values = {
        "interpreter": facts.Interpreter(f"{home}/venv/bin/python", "3.11.7", f"{home}/venv", "linux_x86_64", {}, ()),
        "torch": facts.Torch("2.4.0", "12.1", None, f"{site}/torch", ()),
        "libraries": (
            facts.Library("cuda", f"{home}/libcuda.so", (f"{home}/libcuda.so", f"{home}/gone.so"), (), "dangling", 1,
                          64, "x86_64", None, None, False),
        ),
        "cpm": facts.Cpm("1.0.11", (facts.CpmHit("cuda", f"{home}/libcuda.so", f"{home}/lib64", (), True),)),
        "memory": facts.Memory(16 << 30, 12 << 30, 0, None, None),
        "settings": facts.Settings({str(n): sentence for n, (sentence, _) in enumerate(who.sentences)}),
        "nvml": facts.Unknown(" ".join(sentence for sentence, _ in who.sentences)),
    }  # fmt: skip
    values |= {name: facts.Unknown("not recorded") for name in Host.names() if name not in values}
    return Host.of(**values)


def findings(who: Somebody) -> tuple[Finding, ...]:
    """Each sentence as a title, a detail, a reason to skip, and in what to do."""
    found = []
    for number, (sentence, _) in enumerate(who.sentences):
        words = text("It says: {what}", what=sentence)
        remedy = Remedy("do", words, False, False, True, (f"echo '{sentence}'", sentence))
        found.append(Finding("a.fail", Status.FAIL, words, words, "gcc-missing", {"n": number}, True, (), (remedy,)))
        found.append(Finding("a.log", Status.WARN, text("A log"), text("{log}", log=f"1\n{sentence}\n2")))
        found.append(Finding("a.skipped", Status.SKIPPED, text("No"), words))
    return tuple(found)


def seen(words: str, private: list[str]) -> list[str]:
    """What is found, also as the format writes it (entities, backslashes) and in other letters."""
    forms = {words.lower(), html_module.unescape(words).lower(), words.replace("\\", "").lower()}
    return [each for each in private if any(each.lower() in form for form in forms)]


@pytest.mark.parametrize("form", FOR_OTHERS)
@given(who=somebody(paths=True))
@settings(max_examples=40)
def test_no_report_for_others_tells_who_or_where(form: str, who: Somebody) -> None:
    redact = Redactor(f"/home/{who.user}", (who.user, who.host))
    words = importlib.import_module(f"glmdoctor.reports.{form}").render(
        Diagnosis(machine(who), Report(findings(who))), "en", redact
    )
    assert "It says" in words
    for sentence, private in who.sentences:
        assert seen(words, [*private, who.user, who.host]) == [], sentence


@given(who=somebody(paths=False))
@settings(max_examples=100)
def test_no_snapshot_tells_who(who: Somebody) -> None:
    """Its paths stay, since the replay follows them; home folders lose their names."""
    taken_out = snapshot.redactor(f"/home/{who.user}", who.user, who.host)
    with mock.patch.object(snapshot, "redactor", lambda **_: taken_out):
        words = json.dumps(machine(who).to_snapshot(), ensure_ascii=False)
    assert "~/venv" in words and "not recorded" in words
    for sentence, private in who.sentences:
        assert seen(words, [*private, who.user, who.host]) == [], sentence


PASSWORDS = """root:x:0:0:root:/root:/bin/bash
sshd:x:105:65534::/run/sshd:/usr/sbin/nologin
ollama:x:1005:1005::/usr/share/ollama:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
zhang.san:x:1000:1000:,,,:/data/zsan/:/bin/bash
li:x:1001:1001::/home/li:/bin/zsh
cuda:x:1002:1002::/home/cuda:/bin/sh
max:x:1003:1003::/home/max:/bin/sh
c10:x:1004:1004::/home/c10:/bin/sh
cut"""


@pytest.fixture
def shared_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text(PASSWORDS)
    (tmp_path / "home" / "meimei").mkdir(parents=True)
    monkeypatch.setattr(people, "PASSWORDS", str(tmp_path / "passwd"))
    monkeypatch.setattr(people, "HOMES", (str(tmp_path / "home"), str(tmp_path / "none")))


OF_OTHERS = ("zhang.san owns it", "/opt/conda/envs/cuda-li/bin", "Li's venv_MEIMEI", "zsan", "/home/bob/x and bob_env")
ORDINARY = ("cuda-12.1 at c10::Error, torch.max(x)", "sshd, ollama and nobody", "alike, hli, lib, c10d")


@pytest.mark.usefixtures("shared_machine")
def test_other_users_of_the_machine_are_named_nowhere_and_words_stay() -> None:
    redact = Redactor.of_this_machine({})
    told = [redact(words) for words in (*OF_OTHERS, *ORDINARY)]
    recorded = snapshot.encode({"nvml": facts.Unknown("; ".join(OF_OTHERS + ORDINARY))}, {})
    for words in (*told, json.dumps(recorded)):
        assert not re.search(r"zhang|zsan|\bli\b|meimei|bob", words, re.IGNORECASE), words
    assert told[-3:] == list(ORDINARY)
    assert all(words in json.dumps(recorded) for words in ORDINARY)


@pytest.mark.usefixtures("shared_machine")
def test_homes_go_whatever_they_are_called() -> None:
    text = "/home/cuda/x /home/max /home/c10/y"
    assert Redactor.of_this_machine({})(text) == "…/x …/[name] …/y"
    assert snapshot.redactor(others=people.of_this_machine())(text) == "/home/<user>/x /home/<user> /home/<user>/y"


def test_plans_as_json_hold_no_login_and_no_key() -> None:
    """pip's options name an index, and a start file that is rewritten holds whatever its user put there."""
    pins = InstallPackages("/usr/bin/python3", ("a==1",), (), ("--index-url", "https://anna:geheim@example.org/simple"))
    absent = Change(Node("absent"), "/h/.glmdoctor-RUN-1.new", None)
    start = WriteFile("/h/.bashrc", "export HF_TOKEN=hf_abcdefghijklmnop\n", None)
    plan = Plan("p", text("Mend"), (), (pins, start))
    prepared = Prepared(plan, ((pins, {}), (start, {start.path: absent})))
    shown = repairs.as_json([prepared], (), None, (), "en")
    assert "geheim" not in shown and "hf_abc" not in shown
    assert json.loads(shown)["plans"][0]["actions"][0]["options"][1] == "https://example.org/simple"
