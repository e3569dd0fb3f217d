"""The comparison with the peers: its arithmetic, the section it writes, and one whole run on small shapes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_cpu.py"
spec = importlib.util.spec_from_file_location("bench_cpu", SCRIPT)
bench_cpu = importlib.util.module_from_spec(spec)
sys.modules["bench_cpu"] = bench_cpu
spec.loader.exec_module(bench_cpu)
document, summary, layers = (sys.modules[name] for name in ("document", "summary", "layers"))

SHAPE = summary.Shape(layer_weights=1000, head_weights=200, lengths=(4, 8), contexts=(16, 32))
RESULTS = {
    "machine": [{"bandwidth": 10e9, "integer_peak": 50e3, "float_peak": 20e3, "instruction": "sum"}] * 3,
    "int4": [
        {"fast": {
            "decode": decode, "gb_per_s": 8.0, "bytes_per_token": 600, "peak_ratio": 1.05,
            "prefill": {"4": 20.0, "8": 40.0}, "share": 0.8,
            "decode_float32": {"16": 10.0, "32": 7.0}, "decode_bfloat16": {"16": 10.0, "32": 9.0},
        }}
        | {"step_cost": {"fast": {"4": 1.8}, "light": {"4": 1.6}}}
        for decode in (6.0, 9.0, 12.0)
    ],
    "llama.cpp Q4_0": [{"decode": decode, "prefill": {"4": 4.0, "8": 20.0}} for decode in (4.0, 5.0, 6.0)],
    "OpenVINO": [{"decode_s": 0.25, "prefill_s": {"4": 0.5, "8": 0.5}}] * 3,
    "onnxruntime": [{"decode_s": 0.2, "prefill_s": {"4": 0.5, "8": 0.5}}] * 2,
    "our layers": [{"decode_s": 0.1, "prefill_s": {"4": 0.1, "8": 0.4}}] * 3,
    "load": [{"seconds": seconds} for seconds in (2.0, 9.0, 2.5)],
}  # fmt: skip


def goal(part: str, precision: str = "fast"):
    listed = [*summary.goals(RESULTS, SHAPE, precision), *summary.other_goals(RESULTS, SHAPE)]
    return next(goal for goal in listed if goal.what.startswith(part))


def test_ratios_are_taken_within_a_round():
    found = goal("decode int4 / llama.cpp")
    assert found.values == (1.5, 1.8, 2.0)
    assert found.median == 1.8
    assert found.reached


def test_the_better_peer_of_each_round_counts():
    # onnxruntime's 5 tokens/s, and in the round that it lacks OpenVINO's 4.
    assert goal("decode int4 / the better").values == (6 / 5, 9 / 5, 12 / 4)


@pytest.mark.parametrize(
    ("what", "median", "reached"),
    [
        ("decode int4, share", 0.8, False),
        ("prefill 4 int4 / llama.cpp", 5.0, True),
        ("prefill 8 int4 / llama.cpp", 2.0, False),
        ("prefill 8 int4 / OpenVINO", 2.5, True),
        ("decode at 32 tokens / at 16, cache in float32", 0.7, False),
        ("decode at 32 tokens / at 16, cache in bfloat16", 0.9, True),
        ("peak memory", 1.05, True),
        ("linear layers at 4", 4 / 0.1 * 2000 / 50e3, True),
        ("linear layers at 8", 8 / 0.4 * 2000 / 50e3, True),
        ("4 answers in one step against one, fast", 1.8, True),
        ("4 answers in one step against one, light", 1.6, False),
        ("loading", 2.5, True),
    ],
)
def test_goals_follow_from_what_was_measured(what, median, reached):
    assert goal(what).median == pytest.approx(median)
    assert goal(what).reached is reached


def test_what_was_not_measured_is_neither_reached_nor_missed():
    assert goal("decode int8 / llama.cpp").values == ()
    assert goal("decode int4 / llama.cpp", "exact").cells == "not measured | – | –"


def test_points_of_the_roofline():
    measured = summary.points(RESULTS, SHAPE)
    assert measured["limits"] == {"bandwidth": 10e9, "integer_peak": 50e3, "float_peak": 20e3}
    ours = {length: (x, y) for name, length, x, y in measured["points"] if name == "glmcore int4, fast"}
    assert ours == {1: (2400 / 600, 2400 * 9.0), 4: (4 * 2000 / 600, 2000 * 20.0), 8: (8 * 2000 / 600, 2000 * 40.0)}


def test_the_section_replaces_the_old_one_and_says_what_is_missing(tmp_path):
    about = {"machine": "a machine", "date": "today", "command": "python x", "rounds": "3"}
    text = document.section(RESULTS, SHAPE, about, {"OpenVINO": "crashed with SIGSEGV"}, "roofline.svg")
    target = tmp_path / "benchmarks.md"
    target.write_text(f"# Title\n\n{summary.BEGIN}\nold\n{summary.END}\n\n## After\n")
    sys.modules["sections"].put_into(target, summary.BEGIN, summary.END, text)
    sys.modules["sections"].put_into(target, summary.BEGIN, summary.END, text)
    written = target.read_text()
    assert written.startswith("# Title\n\n" + summary.BEGIN) and written.endswith(summary.END + "\n\n## After\n")
    assert "old" not in written and written.count(summary.BEGIN) == 1
    assert "Not measured: OpenVINO: crashed with SIGSEGV." in written
    assert "| decode int4 / llama.cpp Q4_0 | ≥ 1.05 × | 1.80 | 1.50–2.00 | yes | not measured | – | – |" in written
    assert "in the order taken: 2.00, 9.00, 2.50 s" in written
    assert "![Operations per byte against operations per second](roofline.svg)" in written


def test_parts_take_turns_and_a_failure_is_not_repeated(tmp_path, capsys):
    config = bench_cpu.find_config("chatglm2-6b")
    setting = bench_cpu.Setting(1, 2, tmp_path, None, True, config)
    called, absent = [], {}
    parts = ["machine", "original", "our layers"]
    scripts = {"machine.py": "machine", "original_layers.py": "original", "our_layers.py": "our layers"}

    def answer(command):
        part = scripts[Path(command[1]).name]
        called.append(part)
        return "crashed with SIGILL" if part == "original" else {"bandwidth": len(called)}

    results = bench_cpu.measure(setting, parts, absent, answer)
    assert called == ["machine", "original", "our layers", "machine", "our layers"]
    assert absent == {"original": "crashed with SIGILL"}
    assert [entry["bandwidth"] for entry in results["machine"]] == [1, 4]
    assert "min left" in capsys.readouterr().err


def test_large_models_come_in_the_first_rounds_and_loading_more_often():
    listed = bench_cpu.schedule(["machine", "glm4", "load"], 3)
    assert listed[:6] == ["machine", "glm4", "load"] * 2
    assert listed[6:] == ["machine", *["load"] * 3]


def test_how_a_measurement_fails_is_told():
    assert bench_cpu.run([sys.executable, "-c", "print('noise'); print('{\"a\": 1}')"]) == {"a": 1}
    assert bench_cpu.run([sys.executable, "-c", "import os; os.abort()"]) == "crashed with SIGABRT"
    assert bench_cpu.run([sys.executable, "-c", "raise SystemExit('no file')"]) == "failed: no file"
    assert bench_cpu.run(["/nowhere/python"]).startswith("did not start: ")


def test_missing_peers_are_named():
    assert bench_cpu.missing(None, ["int4", "OpenVINO"]) == {"OpenVINO": "no --peers-python was given"}
    lacking = bench_cpu.missing(sys.executable, ["int4", "llama.cpp Q4_0"])
    assert list(lacking) == (["llama.cpp Q4_0"] if importlib.util.find_spec("llama_cpp") is None else [])


def test_shapes_of_the_6b_model():
    setting = bench_cpu.Setting(2, 3, Path(), None, False, bench_cpu.find_config("chatglm2-6b"))
    assert layers.layer_shapes(setting.sizes) == [(4608, 4096), (4096, 4096), (27392, 4096), (4096, 13696)]
    assert setting.shape.layer_weights + setting.shape.head_weights == pytest.approx(5.977e9, rel=1e-3)
    assert layers.copies(4096, 4096) * 4096 * 4096 // 2 >= 100_000_000


def test_a_small_run_writes_section_and_json(tmp_path):
    into, figures = tmp_path / "benchmarks.md", tmp_path / "figures.json"
    parts = ["machine", "int4", "original", "our layers", "OpenVINO", "load", "demo"]
    command = [sys.executable, str(SCRIPT), "--quick", "--threads", "1", "--work", str(tmp_path / "work"),
               "--into", str(into), "--json", str(figures), "--only", *parts]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "without OpenVINO: no --peers-python was given" in done.stderr
    measured = json.loads(figures.read_text())
    for part in ("machine", "int4", "original", "our layers", "load", "demo"):
        assert len(measured["results"][part]) == 1, (part, measured["absent"])
    (machine,) = measured["results"]["machine"]
    assert min(machine["bandwidth"], machine["integer_peak"], machine["float_peak"]) > 1e6
    model = measured["results"]["int4"][0]
    assert set(model) == {"fast", "exact", "step_cost"}
    assert [set(model["step_cost"][name]) for name in ("fast", "light")] == [{"2", "4", "8", "16"}] * 2
    assert model["fast"]["share"] > 0 and model["exact"]["share"] > 0
    assert [set(model["fast"][f"decode_{kept}"]) for kept in ("float32", "bfloat16")] == [{"32", "64"}] * 2
    assert model["fast"]["decode"] > 0 and set(model["fast"]["prefill"]) == {"16", "32"}
    ratio = next(goal for goal in measured["goals"] if goal["what"] == "decode int4 / the original way")
    assert ratio["median"] == pytest.approx(
        model["fast"]["decode"] * measured["results"]["original"][0]["decode_s"], rel=1e-6
    )
    assert document.BEGIN in into.read_text()
