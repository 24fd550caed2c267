"""Campaigns: 200 graphs and 200 damaged files without a finding; planted faults are found and reduced."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest

from dlc.cli.app import run
from dlc.errors import InternalError, ResourceError
from dlc.fuzz import Campaign, Finding, fuzz_bytes, fuzz_graphs
from dlc.fuzz.generate import generate
from dlc.ir.ops.pointwise import Binary
from dlc.options import Options
from dlc.verify.examine import Examination, Finished, Kind, Symptom
from tests.helpers.planted import plant


def test_200_graphs() -> None:
    campaign = fuzz_graphs(200)
    assert campaign, str(campaign)
    assert campaign.cases == 200 and campaign.finished["agrees"] > 170
    assert sum(campaign.finished.values()) == 200


def test_200_damaged_files() -> None:
    campaign = fuzz_bytes(200)
    assert campaign, str(campaign)
    assert campaign.finished["refused with a typed error"] > 100
    assert campaign.finished["agrees"] > 10
    assert "model/protobuf" in campaign.doubts


def test_a_wrong_answer_is_found_written_and_reduced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch, "wrong")
    for index in (i for i in range(200) if "Tanh" in generate(0, i).operators):
        campaign = fuzz_graphs(1, start=index, out=tmp_path)
        if not campaign:
            break
    (finding,) = campaign.findings
    assert finding.symptom.kind is Kind.WRONG and "Tanh" in finding.operators
    assert finding.reproduce == f"dlc fuzz --graphs 1 --seed 0 --start {index}"
    folder = tmp_path / f"graph-{index}"
    assert finding.folder == folder and str(folder) in str(campaign)
    model = onnx.load(folder / "model.onnx")
    with np.load(folder / "inputs.npz") as arrays:
        assert set(arrays) == set(generate(0, index).inputs)
    assert model == generate(0, index).model
    small = onnx.load(folder / "small.onnx")
    assert [node.op_type for node in small.graph.node] == ["Tanh"]
    first, reproduce, verify, *_ = (folder / "finding.txt").read_text().splitlines()
    assert first.startswith("wrong answer") and reproduce == finding.reproduce
    assert verify.startswith("dlc verify model.onnx --inputs inputs.npz")
    # The commands of finding.txt show it again.
    assert run(["fuzz", *reproduce.split()[2:]]) == 1
    monkeypatch.chdir(folder)
    assert run(verify.split()[1:]) == 1
    capfd.readouterr()


@pytest.mark.parametrize("fault, kind", [("error", Kind.ERROR), ("crash", Kind.CRASH)])
def test_a_campaign_survives_what_it_finds(fault: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, fault, Binary("add"))
    campaign = fuzz_graphs(20)
    assert campaign.cases == 20 and not campaign
    assert campaign.finished["agrees"] > 5
    assert {finding.symptom.kind for finding in campaign.findings} == {kind}
    numbers = [finding.index for finding in campaign.findings]
    assert numbers == sorted(set(numbers)) and len(numbers) + campaign.finished["agrees"] <= 20


def test_debug_codegen_reaches_the_compilation_and_the_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: bytes, options: Options, *__: object) -> None:
        raise InternalError(f"debug_codegen={options.debug_codegen}")

    monkeypatch.setattr("dlc.fuzz.campaign._warm_up", lambda: None)
    monkeypatch.setattr(import_module("dlc.api.compile"), "build", refuse)
    for debug in (False, True):
        (finding,) = fuzz_graphs(1, debug_codegen=debug, reduce=False, out=tmp_path / str(debug)).findings
        assert f"debug_codegen={debug}" in finding.symptom.text
        assert finding.reproduce.endswith("--debug-codegen") is debug
        assert (tmp_path / str(debug) / "graph-0" / "finding.txt").read_text().count("--debug-codegen") == (
            3 if debug else 0
        )
    refused = fuzz_bytes(30, debug_codegen=True).findings
    assert refused and all(finding.reproduce.endswith("--debug-codegen") for finding in refused)
    assert all("debug_codegen=True" in finding.symptom.text for finding in refused)


def test_damaged_files_that_kill_a_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dlc.fuzz.campaign._warm_up", lambda: None)
    monkeypatch.setattr("dlc.api.compile", lambda *_, **__: os.abort())
    campaign = fuzz_bytes(2, seed=3, start=8, out=tmp_path)
    assert [finding.symptom.kind for finding in campaign.findings] == [Kind.CRASH] * 2
    assert (tmp_path / "bytes-8" / "model.onnx").stat().st_size > 0
    assert campaign.findings[1].reproduce == "dlc fuzz --bytes 1 --seed 3 --start 9"


def test_nothing_is_said_where_nothing_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = Examination(None, Finished.LIMITED, ("no memory",))
    monkeypatch.setattr("dlc.verify.examine.examine", lambda *_, **__: limited)
    with pytest.raises(ResourceError, match="does not compile anything"):
        fuzz_graphs(1)
    monkeypatch.undo()

    def broken(*_: object) -> None:
        raise TypeError("planted")

    monkeypatch.setattr(import_module("dlc.api.compile"), "build", broken)
    with pytest.raises(ResourceError, match=r"TypeError.*planted"):
        fuzz_graphs(1)


# --- reports


def test_what_a_campaign_says() -> None:
    campaign = Campaign("random graphs", 3)
    campaign.count(5, Examination(None, Finished.AGREES))
    campaign.count(6, Examination(None, Finished.UNSUPPORTED, ("RNN", "GRU")))
    campaign.count(7, Examination(None, Finished.INCONCLUSIVE, ("the judges disagree about y",)))
    campaign.count(8, Examination(Symptom(Kind.CRASH, "11", "died"), Finished.INCONCLUSIVE))
    campaign.findings.append(Finding(8, Symptom(Kind.CRASH, "11", "died\x1b[31m"), ("Conv",), "dlc fuzz"))
    text, data = str(campaign), json.loads(json.dumps(campaign.to_dict()))
    assert "4 random graphs of seed 3: 1 findings" in text and "1 unsupported: GRU (6)" in text
    assert "1 the judges disagree (7)" in text and "\x1b" not in text and "crash: died" in text
    assert data["finished"] == {"agrees": 1, "unsupported": 1, "inconclusive": 1, "crash": 1}
    assert data["findings"][0]["kind"] == "crash" and data["doubts"] == {"the judges disagree": [7]}


def test_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["fuzz", "--graphs", "1", "--bytes", "1", "--seed", "2", "--json"]) == 0
    data = json.loads(capfd.readouterr().out)
    assert [campaign["cases"] for campaign in data["campaigns"]] == [1, 1] and not data["found"]
    assert run(["fuzz"]) == 2
    assert "give --graphs N or --bytes N" in capfd.readouterr().err


def test_the_reduce_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch, "wrong")
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { a = Neg (x) y = Tanh (a) }'
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "large.onnx")
    status = run(
        ["reduce", str(tmp_path / "large.onnx"), "-o", str(tmp_path / "small.onnx"), "--threads", "1"]
    )
    captured = capfd.readouterr()
    assert status == 0 and "2 nodes reduced to 1 (Tanh)" in captured.out
    assert [node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node] == ["Tanh"]
    assert (tmp_path / "small.npz").is_file()
    assert (
        run(["reduce", str(tmp_path / "large.onnx"), "-o", str(tmp_path / "small.onnx"), "--against", "tvm"])
        == 2
    )
