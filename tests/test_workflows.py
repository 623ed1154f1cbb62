"""The GitHub workflows and the action: their form by the published schemas, their promises by reading them, their
scripts by running them with what they call replaced by recorders."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE

from fixtures.models.checkpoint import FILES
from fixtures.models.embedded import EMBEDDED
from fixtures.models.named import ALIASES
from fixtures.session.option_table import OPTIONS

FOLDER = Path(__file__).parents[1] / ".github" / "workflows"
TESTS, PROBES, GALLERY = FOLDER / "tests.yml", FOLDER / "probes-gpu.yml", FOLDER / "gallery.yml"
ACTION = FOLDER.parent / "actions" / "probes" / "action.yml"
PAGE = FOLDER.parents[1] / "docs" / "ci_action.md"
RECORDER = """#!{python}
import json, os, sys
with open(os.environ["RECORD"], "a") as stream:
    stream.write(json.dumps([sys.argv, os.environ.get("HF_HUB_OFFLINE")]) + "\\n")
"""


def load(file):
    return yaml.load(file.read_text(), yaml.BaseLoader)  # in which `on` is no truth value


def steps(file):
    if file == ACTION:
        return load(file)["runs"]["steps"]
    return [step for job in load(file)["jobs"].values() for step in job["steps"]]


def step(name):
    return next(step for step in steps(ACTION) if step.get("name") == name)


def call(file, start):
    """The one step of a workflow that uses an action whose name starts so."""
    (found,) = [step for step in steps(file) if step.get("uses", "").startswith(start)]
    return found


def conforms(*files, schema="vendor.github-workflows"):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_workflows_conform_to_the_schema():
    files = sorted(FOLDER.glob("*"))
    assert files == [GALLERY, PROBES, TESTS]
    outcome = conforms(*files)
    assert outcome.returncode == 0, outcome.stdout


def test_the_schema_refuses_a_workflow_with_a_misspelt_key(tmp_path):
    (tmp_path / "bad.yml").write_text(PROBES.read_text().replace("runs-on:", "runs_on:"))
    assert conforms(tmp_path / "bad.yml").returncode == 1


def test_the_action_conforms_to_the_schema_which_refuses_a_misspelt_key(tmp_path):
    outcome = conforms(ACTION, schema="vendor.github-actions")
    assert outcome.returncode == 0, outcome.stdout
    (tmp_path / "action.yml").write_text(ACTION.read_text().replace("shell:", "shel:", 1))
    assert conforms(tmp_path / "action.yml", schema="vendor.github-actions").returncode == 1


def test_the_nightly_run_is_the_action_and_gives_it_every_input_of_its_own():
    given = call(PROBES, "./.github/actions/probes")["with"]
    assert (FOLDER.parents[1] / "./.github/actions/probes/action.yml").resolve() == ACTION
    assert given.keys() <= load(ACTION)["inputs"].keys()
    own = load(PROBES)["on"]["workflow_dispatch"]["inputs"]
    assert own.keys() < given.keys() and all(f"inputs.{name}" in given[name] for name in own)


def test_every_input_of_the_action_is_used_and_every_expression_names_what_there_is():
    text, action = ACTION.read_text(), load(ACTION)
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == action["inputs"].keys()
    ids = [entry["id"] for entry in steps(ACTION) if "id" in entry]
    assert set(re.findall(r"steps\.(\w+)\.", text)) <= set(ids)
    for name, output in re.findall(r"steps\.(\w+)\.outputs\.(\w+)", text):
        script = next(entry["run"] for entry in steps(ACTION) if entry.get("id") == name)
        assert f'"{output}=' in script


def test_every_script_of_the_action_says_its_shell_and_where_it_runs():
    scripts = [entry for entry in steps(ACTION) if "run" in entry]
    assert {entry["shell"] for entry in scripts} == {"bash"}
    places = [entry.get("working-directory") for entry in scripts if entry["name"] != "Summary"]
    assert set(places) == {"${{ github.action_path }}/../../.."}
    assert (ACTION.parent / "../../.." / "pytest.ini").exists()


def test_the_page_has_ten_lines_that_call_the_action_with_inputs_that_exist(tmp_path):
    examples = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for number, text in enumerate(examples):
        (tmp_path / f"{number}.yml").write_text(text)
    whole = tmp_path / "0.yml"
    outcome = conforms(whole)
    assert outcome.returncode == 0, outcome.stdout
    assert len(examples[0].splitlines()) <= 10 and load(whole)["permissions"] == {"contents": "read"}
    inputs, outputs = load(ACTION)["inputs"].keys(), load(ACTION)["outputs"].keys()
    name = r"[\w.-]+/[\w.-]+/\.github/actions/probes@\w+"
    assert re.fullmatch(name, call(whole, "OWNER/")["uses"])
    for given in re.findall(r"with: \{ (.*) \}", PAGE.read_text()):
        assert {part.split(":")[0] for part in given.split(", ")} <= inputs
    rows = set(re.findall(r"^\| `([\w-]+)` \|", PAGE.read_text(), re.MULTILINE))
    assert rows == inputs | outputs


def test_tests_run_on_every_push_and_pull_request_in_both_pythons():
    workflow = load(TESTS)
    assert set(workflow["on"]) == {"push", "pull_request"} and not any(workflow["on"].values())
    job = workflow["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert "make test" in [step.get("run") for step in job["steps"]]
    assert any(step.get("with", {}).get("cache") == "pip" for step in job["steps"])


def test_the_runner_sees_no_pull_request_and_no_fork():
    workflow = load(PROBES)
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}
    assert all(job["if"] == "github.repository == vars.PROBES_REPOSITORY" for job in workflow["jobs"].values())
    assert workflow["concurrency"] == {"group": "probes-gpu", "cancel-in-progress": "false"}


@pytest.mark.parametrize("file", [TESTS, PROBES], ids=["tests", "probes"])
def test_a_workflow_may_read_the_repository_and_nothing_else(file):
    workflow = load(file)
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == ["false"]
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_the_gallery_is_built_with_rights_to_read_and_only_its_deployment_may_write_pages():
    workflow = load(GALLERY)
    assert workflow["on"]["push"] == {"branches": ["main"], "paths": ["published/**"]}
    assert set(workflow["on"]) == {"push", "workflow_dispatch"}, "no code of a fork is published"
    build, deploy = workflow["jobs"]["build"], workflow["jobs"]["deploy"]
    assert workflow["permissions"] == {"contents": "read"} and "permissions" not in build
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"} and deploy["needs"] == "build"
    assert [step["uses"].partition("@")[0] for step in deploy["steps"]] == ["actions/deploy-pages"]
    assert call(GALLERY, "actions/checkout")["with"]["persist-credentials"] == "false"
    assert all("timeout-minutes" in job for job in (build, deploy)) and "secrets." not in GALLERY.read_text()


def test_the_gallery_takes_every_published_run_and_uploads_what_it_has_made(tmp_path):
    """The command is run where the workflow runs it, and the folder that it makes is the one that is uploaded."""
    (tmp_path / "published/one").mkdir(parents=True)
    old = FOLDER.parents[1] / "tests/data/old_results/3.json"
    (tmp_path / "published/one/results.json").write_bytes(old.read_bytes())
    (script,) = [step["run"] for step in steps(GALLERY) if step.get("name") == "Gallery"]
    places = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(FOLDER.parents[1])}
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=os.environ | places, check=True, capture_output=True)
    uploaded = tmp_path / call(GALLERY, "actions/upload-pages-artifact")["with"]["path"]
    assert (uploaded / "index.html").is_file()


@pytest.mark.parametrize("file", [TESTS, PROBES, GALLERY, ACTION], ids=["tests", "probes", "gallery", "action"])
def test_no_expression_stands_in_shell_text(file):
    scripts = [step["run"] for step in steps(file) if "run" in step]
    assert scripts and not any("${{" in script for script in scripts)
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_token_is_in_the_download_and_nowhere_else():
    (with_secret,) = [step for step in steps(PROBES) if "secrets." in json.dumps(step)]
    assert with_secret["with"]["token"] == "${{ secrets.HF_TOKEN }}" and PROBES.read_text().count("secrets.") == 1
    with_token = [step.get("name") for step in steps(ACTION) if "inputs.token" in json.dumps(step)]
    assert with_token == ["Download"] and "secrets." not in ACTION.read_text()
    assert step("Probes")["env"]["HF_HUB_OFFLINE"] == "1"
    names = [entry.get("name") for entry in steps(ACTION)]
    assert names.index("Download") < names.index("Probes")


def test_every_variable_of_the_suite_is_one_of_its_options():
    used = set(re.findall(r"\bPROBES_[A-Z_]+", ACTION.read_text()))
    known = {option.variable for option in OPTIONS}
    assert {"PROBES_MODEL", "PROBES_STORE", "PROBES_REPORTS"} < used
    assert used <= known


def test_the_report_and_junit_are_uploaded_as_they_are_and_the_folder_as_one_archive():
    uploads = [step for step in steps(ACTION) if step.get("uses", "").startswith("actions/upload-artifact")]
    assert {upload["uses"] for upload in uploads} == {"actions/upload-artifact@v7"}  # the first that can leave unzipped
    as_they_are = [upload["with"]["path"] for upload in uploads if upload["with"].get("archive") == "false"]
    assert [path.split("outputs.")[1] for path in as_they_are] == ["report }}", "reports }}/junit.xml"]
    archived = [upload["with"] for upload in uploads if "archive" not in upload["with"]]
    assert archived == [{"name": "results", "path": "${{ steps.summary.outputs.folder }}"}]
    assert all("!cancelled()" in upload["if"] for upload in uploads)


@pytest.fixture
def runner(tmp_path):
    """A workplace in which a step's script runs as on GitHub; programs that it calls write down their arguments."""
    (tmp_path / "work" / "stimuli").mkdir(parents=True)
    programs = [tmp_path / "work/.venv/bin/hf", tmp_path / "work/.venv/bin/python"]
    for program in programs:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(RECORDER.format(python=sys.executable))
        program.chmod(0o755)

    def run(name, **variables):
        wanted = step(name)
        record = tmp_path / "record"
        record.unlink(missing_ok=True)
        fixed = {name: value for name, value in wanted.get("env", {}).items() if "${{" not in value}
        own = {"RECORD": str(record), "RUNNER_TEMP": str(tmp_path / "temp")}
        own["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
        own |= {name: str(tmp_path / name) for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        empty = dict.fromkeys(("PROBES_REVISION", "PROBES_LORA", "MINUTES"), "")
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", wanted["run"]]
        subprocess.run(command, cwd=tmp_path / "work", env=own | empty | fixed | variables, check=True)
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    return run


def places(runner, tmp_path, **variables):
    """What the step Places puts out."""
    workspace = tmp_path / "workspace"
    workspace.mkdir(exist_ok=True)
    (tmp_path / "GITHUB_OUTPUT").unlink(missing_ok=True)
    empty = dict.fromkeys(("MODEL", "LORA", "BASELINE", "VOLUME"), "")
    runner("Places", **empty | {"GITHUB_WORKSPACE": str(workspace)} | variables)
    return dict(line.split("=", 1) for line in (tmp_path / "GITHUB_OUTPUT").read_text().splitlines())


@pytest.mark.parametrize("name", ["volume", ""])
def test_the_volume_holds_caches_store_and_images(runner, tmp_path, name):
    given = tmp_path / name if name else tmp_path / "temp/probes"
    found = places(runner, tmp_path, VOLUME=str(given) if name else "")
    assert found["volume"] == str(given) and found["reports"] == str(tmp_path / "temp/reports")
    assert {path.name for path in given.iterdir()} == {"huggingface", "store", "images", "pip"}
    (tmp_path / "work/stimuli/images/x.png").write_bytes(b"")
    assert (given / "images/x.png").exists() and Path(found["reports"]).is_dir()
    kept = {path for entry in steps(ACTION) for path in entry.get("env", {}).values() if "outputs.volume" in path}
    assert {path.rpartition("/")[2] for path in kept} == {"huggingface", "store", "pip"}


def test_what_lies_in_the_workspace_is_meant_so(runner, tmp_path):
    workspace = tmp_path / "workspace"
    for file in ("models/mine/x", "loras/a.safetensors", "base.json", "klein/x"):
        (workspace / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace / file).write_text("")
    here = {"MODEL": "models/mine", "LORA": "loras/a.safetensors:0.5", "BASELINE": "base.json"}
    found = places(runner, tmp_path, **here)
    assert [found[name.lower()] for name in here] == [f"{workspace}/{path}" for path in here.values()]
    other = {"MODEL": "klein", "LORA": "owner/taste:0.5", "BASELINE": "/data/base.json"}
    found = places(runner, tmp_path, **other)
    assert [found[name.lower()] for name in other] == list(other.values())


def test_an_input_cannot_put_out_another(runner, tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        places(runner, tmp_path, MODEL="klein\nvolume=/elsewhere")
    hostile = "$(touch pwned);`touch pwned`"
    assert places(runner, tmp_path, MODEL=hostile)["model"] == hostile and not list(tmp_path.rglob("pwned"))


def downloads(runner, **variables):
    return [arguments[1:] for arguments, _ in runner("Download", **variables)]


def test_the_download_takes_the_files_that_the_suite_reads(runner):
    includes = [f"--include={pattern}" for pattern in FILES]
    assert downloads(runner, PROBES_MODEL="klein") == [["download", ALIASES["klein"], *includes]]
    found = downloads(runner, PROBES_MODEL="owner/name", PROBES_REVISION="v1; touch pwned")
    assert found == [["download", "owner/name", *includes, "--revision=v1; touch pwned"]]


@pytest.mark.parametrize("model", [*EMBEDDED, "/models/mine", "folder/here", "$(touch pwned)", "-x/y", "a b/c"])
def test_what_is_no_hub_id_is_not_downloaded(runner, tmp_path, model):
    (tmp_path / "work/folder/here").mkdir(parents=True)
    assert downloads(runner, PROBES_MODEL=model) == []
    assert not (tmp_path / "work/pwned").exists()


@pytest.mark.parametrize(
    ("lora", "expected"),
    [
        ("owner/taste", [["owner/taste", LORA_WEIGHT_NAME_SAFE]]),
        ("owner/taste:0.5", [["owner/taste", LORA_WEIGHT_NAME_SAFE]]),
        ("owner/taste/deep/a.safetensors:1", [["owner/taste", "deep/a.safetensors"]]),
        ("/data/a.safetensors:0.5", []),
        ("--token/x", []),
        ("", []),
    ],
)
def test_the_lora_is_downloaded_with_its_weight_left_out(runner, lora, expected):
    found = downloads(runner, PROBES_MODEL="klein-mini", PROBES_LORA=lora)
    assert found == [["download", *arguments] for arguments in expected]


def test_arguments_are_words_and_never_shell(runner, tmp_path):
    reports = tmp_path / "reports"
    hostile = "-k 'a;b' $(touch pwned) `touch pwned` ; touch pwned * --seed 3"
    ((arguments, offline),) = runner("Probes", ARGUMENTS=hostile, PROBES_REPORTS=str(reports))
    expected = ["-m", "pytest", "--junitxml", f"{reports}/junit.xml", *hostile.split(" ")]
    assert arguments[1:] == expected and offline == "1" and not (tmp_path / "work/pwned").exists()
    ((arguments, _),) = runner("Probes", ARGUMENTS="", PROBES_REPORTS=str(reports))
    assert arguments[1:] == expected[:4]
    ((arguments, _),) = runner("Probes", ARGUMENTS="--seed 3\n-k a\n", PROBES_REPORTS=str(reports))
    assert arguments[5:] == ["--seed", "3", "-k", "a"], "those of every line"


def test_after_the_minutes_the_run_is_interrupted_and_not_killed(runner, tmp_path):
    timeout = tmp_path / "bin/timeout"
    timeout.parent.mkdir()
    timeout.write_text(RECORDER.format(python=sys.executable))
    timeout.chmod(0o755)
    ((arguments, _),) = runner("Probes", ARGUMENTS="", MINUTES="360", PROBES_REPORTS="r")
    assert arguments[1:5] == ["--signal=INT", "--kill-after=5m", "360m", ".venv/bin/python"]


def test_the_summary_of_the_last_run_is_shown(runner, tmp_path):
    reports = tmp_path / "reports"
    for name in ("20310101T000000Z-a", "20310102T000000Z-a"):
        (reports / name).mkdir(parents=True)
        (reports / name / "summary.md").write_text(f"# {name}\n")
    (reports / "latest").symlink_to("20310101T000000Z-a")
    runner("Summary", PROBES_REPORTS=str(reports))
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == (
        f"folder={reports}/20310102T000000Z-a\nreport={reports}/20310102T000000Z-a/report.html\n"
    )
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text() == "# 20310102T000000Z-a\n"


def test_a_run_without_a_report_leaves_a_line_and_no_folder(runner, tmp_path):
    (tmp_path / "reports").mkdir()
    runner("Summary", PROBES_REPORTS=str(tmp_path / "reports"))
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == "folder=\nreport=\n"
    assert "No summary was written" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
