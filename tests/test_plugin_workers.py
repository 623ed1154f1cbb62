"""Filling the store apart from evaluating it, alone and in shares; out of memory; workers that die."""

import json
import os
import shutil

import pytest
import torch
from lora_factory import save_lora
from toy_project import CONTROL, IMAGES, PROBE, STIMULI, claims, entries, folder, noise, pairs, results, run, write

import fixtures.activations.segments as segments
import fixtures.models.loading
from fixtures.activations.capture import _Forward
from fixtures.claims.ladder import CAUSAL
from fixtures.common.errors import OutOfMemory

pytest_plugins = "pytester"


@pytest.fixture
def whole(project, monkeypatch):
    """The toy project with images, which are noise, a placebo and all controls."""
    monkeypatch.setattr("fixtures.activations.images._generate", lambda pipeline, batch, *about: noise(batch))
    write(project, "stimuli/toy.toml", IMAGES + pairs(9))
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    return project


def figures(project):
    """What a run decided, without where and when."""
    (hypothesis,) = results(project)["hypotheses"]
    decided = {claim["test"]: (claim["verdict"], claim["observed"], claim["p"]) for claim in hypothesis["claims"]}
    controls = {control["id"]: (control["verdict"], control["reason"]) for control in hypothesis["controls"]}
    return decided, controls


def test_a_store_filled_in_shares_is_evaluated_without_the_model(whole, tmp_path, monkeypatch):
    run(whole, "--store", str(tmp_path / "alone"), "--controls", "all")
    expected = figures(whole)
    left = {name for name, (verdict, _) in expected[1].items() if verdict not in ("passed", "failed")}
    assert left == {"confounds", *CAUSAL}, "one wording, and too few pairs to change units"
    shutil.rmtree(whole.path / "stimuli" / "images")
    store = str(tmp_path / "shared")
    shares = []
    for share in ("1/2", "2/2"):  # the second finds all images there, and does what takes them all
        outcome = run(whole, "--store", store, "--capture-only", "--shard", share)
        assert outcome.ret == 0 and outcome.parseoutcomes() == {}
        shares.append(entries(tmp_path / "shared"))
    assert set(shares[0]) < set(shares[1]) == set(entries(tmp_path / "alone"))
    assert len(list((whole.path / "reports").glob("2*"))) == 1, "nothing but the first run wrote a report"

    shutil.rmtree(whole.path / "stimuli" / "images")
    monkeypatch.setattr("fixtures.models.model.load_model", lambda *arguments: pytest.fail("loaded the model"))
    run(whole, "--store", store, "--store-only", "--controls", "all")
    assert figures(whole) == expected
    assert results(whole)["hypotheses"][0]["activations"]["from_store"]
    assert entries(tmp_path / "shared") == shares[1]


def test_a_share_that_finds_images_missing_says_so(whole, tmp_path):
    outcome = run(whole, "--store", str(tmp_path / "store"), "--capture-only", "--shard", "2/2")
    outcome.stdout.fnmatch_lines(["*left for later, until the other shards have generated their images: *toy*"])
    assert outcome.ret == 0


def test_a_launcher_gives_the_share(project, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert run(project, "--store", str(tmp_path / "store"), "--capture-only").ret == 0
        seen.append(len(entries(tmp_path / "store")))
    assert 0 < seen[0] < seen[1]


def test_processes_that_have_a_share_take_little_at_a_time(project, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "fixtures.session.capture_only.fill", lambda run, *about: seen.append(run.capturing.shared) or []
    )
    for share in ("1/1", "1/2"):
        assert run(project, "--capture-only", "--shard", share).ret == 0
    assert seen == [0, 2]


SHARES = [
    ({"RANK": "0", "WORLD_SIZE": "4"}, (), "share 1 of 4 is done; the other three must be too"),
    ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (), "share 2 of 2 is done; the other one must be too"),
    (
        {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "3"},
        (),
        "share 3 of 3 is done; the other two must be too",
    ),
    ({}, ("--shard", "1/2"), "share 1 of 2 is done; the other one must be too"),
    ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, (), None),
]


@pytest.mark.parametrize(("variables", "arguments", "line"), SHARES)
def test_a_share_ends_with_what_must_run_besides(project, tmp_path, monkeypatch, variables, arguments, line):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    store = ("--store", str(tmp_path / "store"))
    outcome = run(project, *store, "--capture-only", *arguments)
    assert outcome.ret == 0
    if line:
        outcome.stdout.fnmatch_lines([line])
    else:
        outcome.stdout.no_fnmatch_line("*must be too*")
    evaluated = run(project, *store, "--store-only", "--controls", "none")
    if line:
        assert evaluated.ret == pytest.ExitCode.TESTS_FAILED
        evaluated.stdout.fnmatch_lines(["*--store-only loads no model*", "not decided: 2 of 2 claims and controls (*"])
        assert run(project, *store, "--capture-only", "--shard", "1/1").ret == 0
    run(project, *store, "--store-only", "--controls", "none").assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ({"RANK": "1"}, ("--capture-only",)),
        ({"SLURM_STEP_NUM_TASKS": "four"}, ("--capture-only",)),
        ({"SLURM_ARRAY_TASK_ID": "x"}, ("--capture-only",)),
        ({"LOCAL_RANK": "x"}, ()),
    ],
)
def test_a_malformed_variable_of_a_launcher_is_a_usage_error(project, monkeypatch, variables, arguments):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    outcome = run(project, *arguments)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: *RANK*" if "RANK" in str(variables) else "ERROR: SLURM_*"])
    assert not (project.path / "reports").exists()


def test_nothing_to_capture_is_no_success(project, tmp_path):
    write(project, "probes/test_toy.py", "def test_plain():\n    pass\n")
    outcome = run(project, "--store", str(tmp_path / "store"), "--capture-only")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["--capture-only: none of the chosen tests asks for activations*"])


def test_an_empty_store_says_what_there_is(project, tmp_path):
    outcome = run(project, "--store", str(tmp_path / "store"), "--store-only")
    outcome.stdout.fnmatch_lines(["*--store-only: no captures of klein-tiny in *. There are: none.*"])
    assert {claim["verdict"] for claim in claims(project, folder(project)).values()} == {"not evaluated"}


def test_a_store_of_two_protocols_asks_which(project, tmp_path):
    store = ("--store", str(tmp_path / "store"))
    for seed in "12":
        run(project, *store, "--capture-only", "--seed", seed)
    outcome = run(project, *store, "--store-only")
    outcome.stdout.fnmatch_lines(["*several stored captures fit: klein-tiny, * seed [12],*; klein-tiny, * seed [12],*"])
    chosen = run(project, *store, "--store-only", "--seed", "2")
    chosen.assert_outcomes(passed=2)
    chosen.stdout.fnmatch_lines(["--store-only: klein-tiny, device cpu, * seed 2, *"])


def test_a_store_tells_compiled_blocks_from_plain_ones(project, tmp_path, monkeypatch):
    store = ("--store", str(tmp_path / "store"))
    run(project, *store, "--capture-only")
    plain = run(project, *store, "--store-only", "--compile", "on")
    plain.stdout.fnmatch_lines(["*no captures of klein-tiny in *compiled False*"])
    run(project, *store, "--store-only")
    assert results(project)["protocol"]["compiled"] is False
    real = fixtures.models.loaded.compile_blocks
    monkeypatch.setattr(
        "fixtures.models.loaded.compile_blocks", lambda family, transformer: real(family, transformer, backend="eager")
    )
    run(project, *store, "--capture-only", "--compile", "on")
    both = run(project, *store, "--store-only")
    both.stdout.fnmatch_lines(["*several stored captures fit: *compiled *; *compiled *Choose with *`--compile`*"])
    for value in ("off", "on"):
        run(project, *store, "--store-only", "--compile", value)
        assert results(project)["protocol"]["compiled"] is (value == "on")


def test_a_store_tells_a_model_with_a_lora_from_one_without(project, tmp_path, tiny):
    store, lora = ("--store", str(tmp_path / "store")), str(save_lora(tiny.pipeline.transformer, tmp_path / "update"))
    run(project, *store, "--capture-only")
    missing = run(project, *store, "--store-only", "--lora", lora)
    missing.stdout.fnmatch_lines(
        ["*--store-only: no captures of klein-tiny with the LoRA *update*There are: klein-tiny*"]
    )
    run(project, *store, "--capture-only", "--lora", lora)
    run(project, *store, "--store-only", "--lora", lora)
    assert results(project)["model"]["base"]["name"] == "klein-tiny"
    run(project, *store, "--store-only", "--lora", f"{lora}:0.5").stdout.fnmatch_lines(["*no captures of *"])
    run(project, *store, "--store-only")
    assert results(project)["model"]["base"] is None


def test_what_was_not_captured_is_not_evaluated(project, tmp_path):
    store = ("--store", str(tmp_path / "store"))
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    run(project, *store, "--capture-only", "--controls", "none")
    run(project, *store, "--store-only", "--controls", "replication")
    (hypothesis,) = results(project, folder(project))["hypotheses"]
    assert {claim["verdict"] for claim in hypothesis["claims"]} == {"supported", "refuted"}
    (control,) = hypothesis["controls"]
    assert control["verdict"] == "not evaluated" and "--store-only loads no model" in control["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shard", "1/2"), "--shard goes with --capture-only"),
        (("--capture-only", "--shard", "3/2"), "'3/2' is not a share"),
        (("--capture-only", "--store-only"), "exclude each other"),
        (("--capture-only", "-n", "2"), "not by -n"),
    ],
)
def test_options_that_do_not_go_together_are_refused(project, arguments, message):
    outcome = project.runpytest_subprocess("-p", "no:cacheprovider", *arguments, "probes")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"*{message}*"])


def test_capture_only_fails_where_nothing_can_be_captured(project, tmp_path):
    write(project, "stimuli/toy.toml", STIMULI)
    outcome = run(project, "--store", str(tmp_path / "store"), "--capture-only")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["*toy: *toy.toml: *pairs*"])


def test_out_of_memory_halves_the_batch_and_marks_the_record(project, tmp_path, monkeypatch):
    run(project)
    size = results(project)["protocol"]["batch_size"]
    assert results(project)["model"]["batch_size_halved_from"] is None
    whole = _Forward.__call__

    def scarce(self, batch, text, images, level=None):
        if self.size > 3:
            raise torch.OutOfMemoryError("no memory")
        return whole(self, batch, text, images, level)

    monkeypatch.setattr(_Forward, "__call__", scarce)
    outcome = run(project, "--store", str(tmp_path / "store"))
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines([f"*out of memory on cpu; batches of {size // 2} from here on*"])
    assert results(project)["protocol"]["batch_size"] == 2
    assert results(project)["model"]["batch_size_halved_from"] == size
    assert results(project)["hypotheses"][0]["activations"]["batch_size"] == 2


@pytest.fixture
def scarce_for_one(monkeypatch):
    """No batch of more than three stimuli about a long journey finds memory."""
    whole = segments.capture_batches

    def scarce(pipeline, sites, stimuli, protocol, progress, level=None):
        if protocol.batch_size > 3 and any("journey" in stimulus.prompt for stimulus in stimuli):
            raise OutOfMemory("no memory")
        return whole(pipeline, sites, stimuli, protocol, progress, level)

    with monkeypatch.context() as patched:
        patched.setattr(segments, "capture_batches", scarce)
        yield patched


JOURNEY = "other words about a long journey {number}"


def test_each_hypothesis_has_the_protocol_that_it_was_captured_under(project, tmp_path, scarce_for_one):
    write(project, "probes/test_zother.py", PROBE.replace('"toy"', '"zother"'))
    write(project, "stimuli/zother.toml", (STIMULI + pairs(10, b=JOURNEY)).replace('"toy"', '"zother"'))
    run(project, "--store", str(tmp_path / "store"))
    found = results(project)
    first, second = (hypothesis["protocol"] for hypothesis in found["hypotheses"])
    size = found["model"]["batch_size_halved_from"]
    assert (first["batch_size"], second["batch_size"], found["protocol"]["batch_size"]) == (size, 2, 2)
    assert second == found["protocol"] and first == second | {"batch_size": size, "text_batch_size": size}
    halved = f"batch size {size} (the run: 2), text batch size {size} (the run: 2)"
    line = f"Captured under a protocol of its own: {halved}."
    place = project.path / "reports/latest"
    assert (place / "report.html").read_text().count(line) == 2, "one line under each claim of the first"
    assert f"- **Toy.** {line}" in (place / "summary.md").read_text()
    assert f"batch size {size}" in (place / "cards/toy.md").read_text()
    assert "batch size 2" in (place / "cards/zother.md").read_text()


def test_store_only_finds_the_protocol_that_a_halving_led_to_and_no_other(project, tmp_path, scarce_for_one):
    write(project, "stimuli/toy.toml", STIMULI + pairs(10, b=JOURNEY))
    store = tmp_path / "store"
    run(project, "--store", str(store)).assert_outcomes(passed=2)
    captured = results(project)
    records = [json.loads(file.read_text()) for file in store.glob("models/*.json")]
    assert [record["protocol"] for record in records if "format" in record] == [captured["protocol"]]
    scarce_for_one.undo()
    run(project, "--store", str(store), "--store-only").assert_outcomes(passed=2)
    found = results(project)
    assert found["protocol"] == captured["protocol"] == found["hypotheses"][0]["protocol"]
    assert found["hypotheses"][0]["counts"] == captured["hypotheses"][0]["counts"]


DYING = """
import os, signal
import fixtures.session.run as run

def die(self, hypothesis):
    os.kill(os.getpid(), signal.SIGKILL)

run.Run.evidence = die
pytest_plugins = ["fixtures.session.plugin"]
"""


def test_a_worker_that_dies_leaves_its_claims_not_evaluated(project):
    project.makeconftest(DYING)
    outcome = project.runpytest_subprocess("-p", "no:cacheprovider", "-n", "1", "--max-worker-restart", "0", "probes")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    decided = claims(project, folder(project))
    assert {claim["verdict"] for claim in decided.values()} == {"not evaluated"}
    assert any("crashed" in claim["reason"] for claim in decided.values())
    assert not list(folder(project).glob(".expected*"))
    html = (folder(project) / "report.html").read_text()
    assert "crashed" in html and "its test did not run" in html


def test_two_workers_capture_each_segment_once(project, tmp_path):
    write(project, "stimuli/toy.toml", STIMULI + pairs(40))
    store = tmp_path / "store"
    outcome = project.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "--store", str(store), "probes")
    outcome.assert_outcomes(passed=2)
    found = entries(store)
    assert len(found) == len(set(found)) == 8  # 80 stimuli in batches of 10
    sidecars = [json.loads(file.read_text()) for file in store.glob("activations/*/*.json")]
    made = {sidecar["created"] for sidecar in sidecars}
    assert len(made) == 8
    assert os.listdir(store / "models")
