"""One cluster of Ray's on this machine, with nodes that are fit and nodes that are not, serving as users start it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="pip install .[ray]")
pytest.importorskip("fastapi", reason="pip install .[ray]")

from cluster_machines import Rays, Served, processes, rays, served
from lab_nodes import lab_node

import glmcore
from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.place import quantize_checkpoint

pytestmark = pytest.mark.cluster
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TEXTS = ["what is libcuda?", "hello", "why is it slow?", "which driver?", "what is a link?", "how do I undo?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in int8, which needs the compiled kernel."""
    folder = tmp_path_factory.mktemp("model") / "int8"
    with open_checkpoint(demo.folder()) as source:
        quantize_checkpoint(source, folder, "int8")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Rays]:
    """Two nodes that are fit."""
    with rays() as started:
        started.add()
        yield started


@pytest.fixture(scope="module")
def unfit(cluster: Rays, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A node without a compiler or a built kernel, and one with another glmcore: what is wrong → Ray's id."""
    empty, other = tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("other")
    (other / "glmcore").mkdir()
    real = str(Path(glmcore.__file__).parent)
    (other / "glmcore" / "__init__.py").write_text(f"__version__ = '0.0.9'\n__path__ = [{real!r}]\n")
    return {
        "No C compiler": cluster.add(PATH=str(empty), XDG_CACHE_HOME=str(empty)),
        "glmcore 0.0.9 is there": cluster.add(PYTHONPATH=str(other)),
    }


@pytest.fixture(scope="module")
def server(
    cluster: Rays, unfit: dict[str, str], model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Started in a folder with a module that nobody asked for."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "psutil.py").write_text(f"open({str(folder / 'stolen')!r}, 'w')\n")
    with served(cluster, folder, "--model", model) as running:
        yield running


@pytest.fixture(scope="module")
def alone(model: Path) -> dict[str, str]:
    """What the engine says by itself."""
    engine = glmcore.load(model, threads=1)
    return {text: str(engine.chat([{"role": "user", "content": text}], temperature=0)) for text in TEXTS}


def right(server: Served, alone: dict[str, str]) -> bool:
    with ThreadPoolExecutor(len(TEXTS)) as clients:
        answers = list(clients.map(server.chat, TEXTS))
    return [body["choices"][0]["message"]["content"] for _, body, _ in answers] == [alone[text] for text in TEXTS]


def test_nodes_that_are_not_fit_get_nothing_and_hear_what_to_do(
    cluster: Rays, server: Served, unfit: dict[str, str]
) -> None:
    said = server.cluster()
    nodes = {node["id"]: node for node in said["nodes"]}
    for why, id in unfit.items():
        assert nodes[id]["state"] == "unfit" and why in nodes[id]["why"], nodes[id]
        assert nodes[id]["why"] in server.log.read_text()
    assert "apt-get install gcc" in next(nodes[id]["fix"] for why, id in unfit.items() if "compiler" in why)
    assert not (server.log.parent / "stolen").exists()  # no worker imported what lay where the server was started
    holding = {stage["node"] for replica in said["replicas"] for stage in replica["stages"]}
    assert len(holding) == 2 and not holding & {nodes[id]["node"] for id in unfit.values()}


def test_answers_are_those_of_the_engine_alone_and_both_replicas_make_them(
    server: Served, alone: dict[str, str]
) -> None:
    assert right(server, alone)
    drawn = {json.dumps(server.chat("hello", temperature=1, seed=7)[1]["choices"]) for _ in range(4)}
    assert len(drawn) == 1
    status, body, _ = server.chat("hello", n=2, logprobs=True, stop=["e"])
    assert status == 200 and len(body["choices"]) == 2 and body["choices"][0]["logprobs"]["content"]
    scored = {"prompt": "hello", "max_tokens": 0, "echo": True, "logprobs": 1}
    status, said, _ = server.ask("POST", "/v1/completions", scored)
    assert status == 200 and len(json.loads(said)["choices"][0]["logprobs"]["token_logprobs"]) > 1
    vector = json.loads(server.ask("POST", "/v1/embeddings", {"input": "hello"})[1])["data"][0]["embedding"]
    assert sum(value * value for value in vector) == pytest.approx(1)
    status, body, _ = server.chat("hello", max_tokens=40, response_format={"type": "json_object"})
    assert status == 200 and body["choices"][0]["message"]["content"].lstrip().startswith("{")
    message = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}], "stop_sequences": ["e"]}
    assert json.loads(server.ask("POST", "/v1/messages", message)[1])["stop_sequence"] == "e"
    said = server.until(lambda said: all(not each["batch"]["rows_taken"] for each in said["replicas"]))
    assert len(said["replicas"]) == 2
    metrics = server.ask("GET", "/metrics")[1].decode()
    assert 'glmcore_cluster_nodes{state="serving"} 2.0' in metrics
    assert re.search(r"glmcore_cluster_replicas 2\.0", metrics)


def test_the_page_shows_the_machines(server: Served, unfit: dict[str, str]) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="pip install .[dev]")
    browser = os.environ.get("GLM_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium here (GLM_BROWSER names one)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_context(locale="en-GB").new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.get_by_role("tab", name="Machine").click()
        table = page.locator("#nodes")
        api.expect(table.locator("tr")).to_have_count(5, timeout=20_000)
        said = table.inner_text()
        api.expect(page.locator(".device .bar")).to_have_count(2)
        page.locator("#language").select_option("zh")
        api.expect(table).to_contain_text("服务中")
        started.close()
    assert said.count("serving") == 2 and said.count("unfit") == 2 and all(why in said for why in unfit)


def test_a_replica_that_is_killed_is_told_of_replaced_and_missed_by_nobody(
    cluster: Rays, server: Served, alone: dict[str, str]
) -> None:
    before = server.cluster()["losses"]
    with ThreadPoolExecutor(8) as clients:
        asked = {"max_tokens": 2000, "logit_bias": {"2": -100}}  # without its end
        streams = [clients.submit(server.chat, text, stream=True, **asked) for text in TEXTS[:4]]
        wholes = [clients.submit(server.chat, text, **asked) for text in TEXTS[:4]]
        server.until(lambda said: all(each["batch"]["answering"] >= 3 for each in said["replicas"]))
        processes(cluster, "ray::Replica")[0].kill()
        told = [stream.result()[1] for stream in streams]
        refused = [whole.result() for whole in wholes if whole.result()[0] != 200]
    errors = [text for text in told if '"code":"replica-lost"' in text]
    assert errors and all(text.rstrip().endswith("data: [DONE]") for text in errors)
    assert refused
    for status, body, headers in refused:
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "replica-lost", "2")
    assert right(server, alone)  # by the other one, or by both
    said = server.until(lambda said: len(said["replicas"]) == 2)
    assert said["losses"] == before + 1 and right(server, alone)
    assert "Traceback" not in server.log.read_text()


def test_a_model_over_two_machines_answers_as_on_one_and_comes_back_when_a_stage_is_killed(
    cluster: Rays, model: Path, alone: dict[str, str], tmp_path: Path
) -> None:
    with served(cluster, tmp_path, "--model", model, "--stages", "2", "--threads", "1") as server:
        said = server.cluster()
        [replica] = said["replicas"]
        first, second = (stage["layers"] for stage in replica["stages"])
        assert first and second and first + second == [0, 1, 2, 3]
        assert right(server, alone) and right(server, alone)
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(server.chat, TEXTS[0], max_tokens=2000, logit_bias={"2": -100})
            server.until(lambda said: said["replicas"][0]["batch"]["answering"])
            processes(cluster, "ray::StageProcess")[0].kill()
            status, body, headers = answer.result()
        assert (status, headers["retry-after"]) == (503, "2")
        assert body["error"]["code"] in ("replica-lost", "stage-lost")
        server.until(lambda said: said["replicas"])
        assert right(server, alone)
        server.until(lambda said: not any(each["batch"]["rows_taken"] for each in said["replicas"]))


def test_a_machine_that_vanishes_is_gone_and_one_that_joins_is_used(
    cluster: Rays, server: Served, alone: dict[str, str]
) -> None:
    serving = [node for node in server.cluster()["nodes"] if node["state"] == "serving"]
    victim = serving[-1]
    cluster.order("kill", victim["id"])
    said = server.until(lambda said: len(said["replicas"]) == 1)
    assert victim["node"] not in {name for replica in said["replicas"] for name in replica["nodes"]}
    assert right(server, alone)
    joined = cluster.add()
    said = server.until(lambda said: len(said["replicas"]) == 2)
    assert joined in {node["id"] for node in said["nodes"] if node["state"] == "serving"}
    assert right(server, alone)


def test_a_machine_of_the_lab_that_is_broken_gets_nothing(cluster: Rays, server: Served) -> None:
    """A mount namespace of its own: nobody else sees the driver that is broken there."""
    from driver_machines import upgraded_under_module

    cause = "Driver upgraded under the running kernel module"
    with lab_node(cluster, upgraded_under_module):
        said = server.until(lambda said: any(node["why"] == cause for node in said["nodes"]), 60)
        [node] = [node for node in said["nodes"] if node["why"] == cause]
        assert (node["state"], node["verdict"]) == ("unfit", "broken") and "modprobe nvidia" in node["fix"]
        assert node["node"] not in {stage["node"] for replica in said["replicas"] for stage in replica["stages"]}
        assert len(said["replicas"]) == 2
    server.until(lambda said: all(each["state"] == "gone" for each in said["nodes"] if each["node"] == node["node"]))


def test_the_doctor_shows_every_node(cluster: Rays, unfit: dict[str, str], model: Path) -> None:
    done = cluster.run("glmdoctor", "check", "--ray", cluster.address, "--model", model, "--json", "--lang", "zh")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["schema_version"] == 1 and len(report["nodes"]) == 4
    assert sum(node["against"] is None for node in report["nodes"]) == 2
    assert any("glmcore 0.0.9" in (node["against"] or "") for node in report["nodes"])
    nodes = {node["root_cause"] and node["root_cause"]["id"]: node for node in report["nodes"]}
    assert {node["verdict"] for node in report["nodes"]} == {"healthy", "broken"}
    assert nodes["compiler.found"]["root_cause"]["title"] == nodes["compiler.found"]["against"] == "没有 C 编译器"
    assert nodes["compiler.found"]["report"]["findings"]
