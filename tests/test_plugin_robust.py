"""Runs in bad conditions: terminated, on a full disk or read-only stimuli, two at once, beside old and new files."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
from toy_project import IMAGES, PROBE, STIMULI, claims, entries, folder, noise, pairs, results, run, write
from without_flock import no_flock

from fixtures.activations.inventory import FORMAT
from fixtures.common.files import read_json, sha256_of
from fixtures.common.sharing import share

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "probes"]


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def second(project):
    """A second hypothesis, whose file comes after the first one's."""
    write(project, "probes/test_zother.py", PROBE.replace('"toy"', '"zother"'))
    text = (STIMULI + pairs(10, b="other words about a long journey {number}")).replace('"toy"', '"zother"')
    write(project, "stimuli/zother.toml", text)


# The second hypothesis waits in the middle of its capture, when its first stimuli are done.
WAITING = """
import time
from pathlib import Path
import fixtures.activations.segments as segments

whole = segments.capture_batches

def waiting(pipeline, sites, stimuli, protocol, progress, level=None):
    def wait(done, total):
        if any("journey" in stimulus.prompt for stimulus in stimuli):
            Path("waiting").touch()
            time.sleep(60)
    return whole(pipeline, sites, stimuli, protocol, wait, level)

segments.capture_batches = waiting
pytest_plugins = ["fixtures.session.plugin"]
"""


def _decided(project, name: str) -> bool:
    """Whether the run under way has written a verdict on every claim of a hypothesis."""
    for file in project.path.glob("reports/*/results.json"):
        for hypothesis in json.loads(file.read_text())["hypotheses"]:
            if hypothesis["id"] == name:
                return {claim["verdict"] for claim in hypothesis["claims"]} == {"supported", "refuted"}
    return False


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_terminated_run_keeps_what_was_captured_and_decided(project, store, workers):
    second(project)
    project.makeconftest(WAITING)
    started = subprocess.Popen(
        [*COMMAND, "--store", str(store), *workers], cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 120
    while not ((project.path / "waiting").exists() and _decided(project, "toy")):  # the other is captured ahead
        assert started.poll() is None and time.monotonic() < deadline, started.communicate()[0].decode()[-2000:]
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=30)
    assert started.returncode == -signal.SIGTERM
    left = results(project, folder(project))
    assert left["run"]["finished"] is None and left["run"]["complete"] is False
    decided = {hypothesis["id"]: hypothesis["claims"] for hypothesis in left["hypotheses"]}
    assert [claim["verdict"] for claim in decided["toy"]] == ["supported", "refuted"]
    assert [(claim["verdict"], claim["reason"]) for claim in decided["zother"]] == [
        ("not evaluated", "its test did not run")
    ] * 2
    assert not (project.path / "reports/latest").exists()
    kept = entries(store)
    assert kept
    before = {file: (store / "activations" / file[:2] / file).stat().st_mtime_ns for file in kept}
    project.makeconftest('pytest_plugins = ["fixtures.session.plugin"]')
    run(project, "--store", str(store))
    assert results(project)["run"]["complete"] is True and set(before) < set(entries(store))
    assert before == {file: (store / "activations" / file[:2] / file).stat().st_mtime_ns for file in kept}


def disk_full(monkeypatch, pattern, after=0):
    """No room for files whose final path fits the pattern, once ``after`` of them have been written."""
    whole, written = os.fsync, []

    def fsync(handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        final = path.with_name(path.name[1:].rsplit(".", 2)[0]) if path.suffix == ".part" else path
        if fnmatch(str(final), pattern):
            if len(written) >= after:
                raise OSError(28, "No space left on device")
            written.append(final)
        whole(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def parts(place):
    return [file.name for file in Path(place).rglob("*.part")]


def test_a_full_disk_under_the_store_loses_nothing_that_is_there(project, store, monkeypatch):
    second(project)
    with monkeypatch.context() as patched:
        disk_full(patched, f"{store}/activations/*", after=5)
        outcome = run(project, "--store", str(store))
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED and not parts(store)
    outcome.stdout.fnmatch_lines(
        [f"*store {store} cannot be written (No space left on device). Free space, or choose*--store DIR*"]
    )
    outcome.stdout.no_fnmatch_line("*Traceback*")
    outcome.stdout.fnmatch_lines(["SUPPORTED *toy/count_t3*", "NOT EVALUATED zother/count_t3*"])
    assert results(project, folder(project))["run"]["complete"] is False
    assert "cannot be written" in (folder(project) / "report.html").read_text()
    kept = {file: next(store.glob(f"activations/*/{file}")).stat().st_mtime_ns for file in entries(store)}
    run(project, "--store", str(store))
    assert all(next(store.glob(f"activations/*/{file}")).stat().st_mtime_ns == made for file, made in kept.items())
    assert results(project)["run"]["complete"] is True


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_a_full_disk_under_a_refresh_leaves_the_old_entries(project, store, monkeypatch, kind):
    run(project, "--store", str(store))
    before = results(project)["hypotheses"][0]["counts"]
    with monkeypatch.context() as patched:
        disk_full(patched, f"{store}/activations/*.{kind}")
        outcome = run(project, "--store", str(store), "--refresh")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED and not parts(store)
    monkeypatch.setattr("fixtures.models.model.load_model", lambda *arguments: pytest.fail("loaded the model"))
    run(project, "--store", str(store)).assert_outcomes(passed=1, failed=1)
    assert results(project)["hypotheses"][0]["counts"] == before and not (store / "damaged").exists()


@pytest.mark.parametrize("name", ["report.html", "results.json", "summary.md", "toy.units.csv.gz", "cards/toy.md"])
def test_a_full_disk_under_the_report_leaves_no_half_of_a_file(project, monkeypatch, name):
    run(project)
    whole = folder(project)
    before = {file.name: file.read_bytes() for file in whole.iterdir() if file.is_file()}
    with monkeypatch.context() as patched:
        disk_full(patched, f"*/reports/*/{name}")
        outcome = run(project)
    outcome.assert_outcomes(passed=1, failed=1)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["SUPPORTED *toy/count_t3*", "REFUTED *", "the report could not be written to *"])
    outcome.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert not (folder(project) / name).exists() and not parts(project.path / "reports")
    assert os.readlink(project.path / "reports/latest") == whole.name, "latest is the last whole report"
    assert {file.name: file.read_bytes() for file in whole.iterdir() if file.is_file()} == before


def test_a_run_whose_report_alone_cannot_be_written_is_no_success(project, monkeypatch):
    write(project, "probes/test_toy.py", PROBE.replace("margin=47", "margin=1.01"))
    disk_full(monkeypatch, "*/reports/*/report.html")
    outcome = run(project)
    outcome.assert_outcomes(passed=2)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED


def test_results_that_are_not_of_their_form_are_written_all_the_same_and_named(project, monkeypatch):
    write(project, "probes/test_toy.py", PROBE.replace("margin=47", "margin=1.01"))
    monkeypatch.setattr("fixtures.results.results.statement", lambda hypothesis: {"sentence": "Not a statement."})
    outcome = run(project)
    outcome.assert_outcomes(passed=2)
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["not in its declared form: *results.json: field hypotheses[[]0].statement.*"])
    found = json.loads((folder(project) / "results.json").read_text())
    assert found["hypotheses"][0]["statement"] == {"sentence": "Not a statement."}


def test_a_page_of_another_name_is_written_whole_and_named(project, monkeypatch):
    page = project.path / "mine" / "page.html"
    outcome = run(project, "--html", "mine/page.html", "--self-contained-html")
    outcome.stdout.fnmatch_lines([f"*Generated html report: {page.as_uri()}*"])
    assert page.read_text().rstrip().endswith("</html>") and "probe-evidence" in page.read_text()
    assert not parts(project.path) and not (folder(project) / "report.html").exists()
    before = page.read_bytes()
    disk_full(monkeypatch, "*/mine/page.html")
    outcome = run(project, "--html", "mine/page.html", "--self-contained-html")
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.no_fnmatch_line("*Generated html report*")
    assert page.read_bytes() == before and not parts(project.path)


def test_nothing_private_of_pytest_html_is_used():
    """What a later version may change without a word."""
    source = (Path(__file__).parents[1] / "fixtures/session/html_page.py").read_text()
    assert not re.findall(r"pytest_html\.\w+report|_write_report|_report_path", source)


def test_a_disk_that_is_full_at_the_start_is_a_usage_error(project, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        outcome = run(project)
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: --reports *: cannot be written (No space left on device)*"])


@pytest.fixture
def unlocked(monkeypatch):
    """From here on the file system has no flock."""
    return lambda: monkeypatch.setattr(fcntl, "flock", no_flock())


def test_old_locks_are_no_hindrance_where_there_is_no_flock(drawn, store, unlocked):
    run(drawn, "--store", str(store))
    old = list(drawn.path.rglob("*.lock")) + list(store.rglob("*.lock"))
    assert old, "flock leaves its files"
    unlocked()
    outcome = run(drawn, "--store", str(store), "--refresh")
    assert results(drawn)["hypotheses"][0]["activations"]["from_store"] is False
    outcome.stdout.no_fnmatch_line("*waiting for*")


def test_a_lock_of_another_machine_is_waited_for_in_words(project, store, unlocked, monkeypatch):
    run(project, "--store", str(store))
    unlocked()
    locks = sorted(store.glob("activations/*/*.lock"))
    for lock in locks:
        lock.write_text("77\nelsewhere\n")

    def told(*about) -> None:
        *about, notify = about

        def note(line: str) -> None:
            notify(line)
            for lock in locks:
                lock.unlink(missing_ok=True)

        share(*about, note, patience=0.2)

    monkeypatch.setattr("fixtures.activations.store.share", told)
    outcome = run(project, "--store", str(store), "--refresh")
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines([f"waiting for {store}*.lock: process 77 on elsewhere holds it.*delete the file."])


@pytest.fixture
def drawn(project, monkeypatch):
    """The toy project with images, which are noise."""
    monkeypatch.setattr("fixtures.activations.images._generate", lambda pipeline, batch, *about: noise(batch))
    write(project, "stimuli/toy.toml", IMAGES.replace('placebo = ["seed", "brightness"]\n', "") + pairs(9))
    return project


def read_only(monkeypatch, place):
    """Nothing can be made, written or locked below ``place``, as on a read-only file system."""
    mkdir, opened = Path.mkdir, os.open

    def refuse(path):
        if Path(os.fsdecode(path)).is_relative_to(place):
            raise OSError(30, "Read-only file system", str(path))

    def make(self, *arguments, **options):
        if not self.is_dir():
            refuse(self)
        return mkdir(self, *arguments, **options)

    def open_file(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return opened(path, flags, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", make)
    monkeypatch.setattr(os, "open", open_file)


def test_a_read_only_stimuli_folder_without_images_is_named(drawn, store, monkeypatch):
    read_only(monkeypatch, drawn.path / "stimuli")
    outcome = run(drawn, "--store", str(store))
    outcome.assert_outcomes(errors=1, skipped=1)
    outcome.stdout.fnmatch_lines(["*stimuli/images/klein-tiny*: images cannot be written (Read-only file system)*"])
    outcome.stdout.fnmatch_lines(["*Make the folder writable*"])
    outcome.stdout.no_fnmatch_line("*Traceback*")


def test_a_file_where_the_images_belong_is_named(drawn, store):
    write(drawn, "stimuli/images", "")
    outcome = run(drawn, "--store", str(store))
    outcome.assert_outcomes(errors=1, skipped=1)
    outcome.stdout.fnmatch_lines(["*stimuli/images/klein-tiny*: images cannot be written (*Make the folder writable*"])


def test_a_read_only_stimuli_folder_with_images_will_do(drawn, store, tmp_path, monkeypatch):
    run(drawn, "--store", str(store))
    expected = [claim["verdict"] for claim in claims(drawn, folder(drawn)).values()]
    read_only(monkeypatch, drawn.path / "stimuli")
    run(drawn, "--store", str(tmp_path / "other"))
    assert [claim["verdict"] for claim in claims(drawn, folder(drawn)).values()] == expected
    assert "not evaluated" not in expected
    assert results(drawn, folder(drawn))["hypotheses"][0]["activations"]["from_store"] is False


# What each process computes goes to a file of its own; the second waits for the first to have begun.
COUNTED = """
import json, os
from pathlib import Path
import fixtures.activations.images as images
import fixtures.activations.segments as segments

from toy_project import noise

capture = segments.capture_batches

def note(kind, names):
    with Path(f"computed-{os.getpid()}.txt").open("a") as stream:
        stream.writelines(f"{kind} {name}\\n" for name in names)

def counted(pipeline, sites, stimuli, protocol, progress, level=None):
    note("capture", (f"{stimulus.name} {protocol.seed} {stimulus.alteration}" for stimulus in stimuli))
    return capture(pipeline, sites, stimuli, protocol, progress, level)

def drawn(pipeline, batch, texts, protocol):
    note("image", (f"{request.name} {request.seed}" for request in batch))
    return noise(batch)

segments.capture_batches, images._generate = counted, drawn
pytest_plugins = ["fixtures.session.plugin"]
"""


def test_two_runs_at_once_on_one_store_compute_each_entry_once(drawn, store, monkeypatch):
    write(drawn, "stimuli/toy.toml", IMAGES.replace('placebo = ["seed", "brightness"]\n', "") + pairs(25))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    drawn.makeconftest(COUNTED)
    command = [*COMMAND, "--store", str(store)]
    both = [subprocess.Popen(command, cwd=drawn.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in "12"]
    texts = [process.communicate(timeout=300)[0].decode() for process in both]
    assert all(process.returncode in (0, 1) for process in both), texts
    logs = list(drawn.path.glob("computed-*.txt"))
    computed = [line for log in logs for line in log.read_text().splitlines()]
    assert len(computed) == len(set(computed)) and sum(line.startswith("image") for line in computed) == 50
    assert sum(line.startswith("capture") for line in computed) == 50
    found = [json.loads(file.read_text()) for file in drawn.path.glob("reports/2*/results.json")]
    assert len(found) == 2 and all(data["run"]["complete"] for data in found)
    decided = [[(c["verdict"], c["observed"], c["p"]) for c in data["hypotheses"][0]["claims"]] for data in found]
    assert decided[0] == decided[1]
    for place in drawn.path.glob("reports/2*"):
        assert (place / "report.html").read_text().rstrip().endswith("</html>") and (place / "summary.md").exists()
    assert os.readlink(drawn.path / "reports/latest") in {data["run"]["id"] for data in found}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (2, "a baseline of a newer schema, 2, expected 1. Update this suite to read it."),
        (0, "a baseline of another schema, 0, expected 1. Save the baseline again*"),
        ("1", "a baseline of another schema, '1', expected 1. Save the baseline again*"),
        (None, "JSON of another kind. Expected a baseline that --save-baseline has written."),
    ],
)
@pytest.mark.parametrize("option", ["--baseline", "--save-baseline"])
def test_a_baseline_of_another_time_is_refused_in_words(project, option, schema, message):
    """Whole by its own hash, so that nothing but the schema speaks against it; with fields nobody knows yet."""
    data = {"schema": schema, "unknown": {"a": 1}, "hypotheses": []}
    data = data if schema is not None else {"unknown": 1}
    (project.path / "then.json").write_text(json.dumps(data | {"sha256": sha256_of(data)}))
    outcome = run(project, option, "then.json")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"ERROR: *then.json: {message}"])
    assert not (project.path / "reports").exists()


@pytest.mark.parametrize("schema", [0, 1, 2])
@pytest.mark.parametrize("option", ["--baseline", "--save-baseline"])
def test_results_json_is_no_baseline_whatever_its_schema(project, option, schema):
    (project.path / "old.json").write_text(json.dumps({"schema": schema, "run": {"id": "x"}, "hypotheses": []}))
    outcome = run(project, option, "old.json")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["ERROR: *old.json: the results.json of a run. Expected a baseline that --save-base*"])


def test_a_store_of_another_format_is_named_and_left_alone(project, store):
    run(project, "--store", str(store), "--capture-only")
    (record,) = (file for file in (store / "models").glob("*.json") if "format" in read_json(file))
    newer = read_json(record) | {"format": FORMAT + 1}
    record.write_text(json.dumps(newer))
    outcome = run(project, "--store", str(store), "--store-only")
    outcome.stdout.fnmatch_lines(["*--store-only: no captures of klein-tiny in *1 of another format*"])
    outcome.stdout.no_fnmatch_line("*Traceback*")
    assert read_json(record) == newer
