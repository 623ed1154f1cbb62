"""A registration broken in every way there is: each is found, by the words that say what differs.

One run of the toy is held against registrations, as a run holds itself: most tests change the registration, or what the
probe file declares, and ask again.
"""

import copy
import json
from dataclasses import replace

import pytest
from registered_project import LOCK, command, commit, git, under_git
from toy_project import CONTROL, PROBE, STIMULI, folder, pairs, results, run, write

from fixtures.claims.declaration import declaration
from fixtures.common.errors import ProbeError
from fixtures.common.files import readable_json
from fixtures.results.registration import Registration, find_registration, is_intact, load_lock, sealed
from fixtures.results.registration_check import first_captured, register_run, registered
from fixtures.session.probe_files import read_probe_files

pytest_plugins = "pytester"
BEFORE, AFTER = "2020-01-01T00:00:00+00:00", "2098-01-01T00:00:00+00:00"  # of whatever these tests capture
CLAIMS_ALONE = ("--controls", "none")


@pytest.fixture
def place(project, monkeypatch):
    """The toy project under git, registered and committed before anything was captured."""
    write(project, "probes/test_toy.py", PROBE + CONTROL)
    under_git(project)
    assert command(project, monkeypatch, "register") == 0
    commit(project, BEFORE)
    return project


@pytest.fixture(scope="module")
def done():
    return {}


@pytest.fixture
def ran(place, done):
    """The registration, as it is found, and the results of a run; copies that a test may change."""
    if not done:
        run(place, *CLAIMS_ALONE)
        done["results"] = results(place, folder(place))
        done["found"] = find_registration(place.path / LOCK, place.path)
    return copy.deepcopy((done["found"], done["results"]))


def held(found: Registration, data: dict) -> dict:
    """What the hypothesis of results.json is to a registration."""
    return registered(found, data, data["hypotheses"][0])


def declared_again(place, data: dict) -> None:
    """Have results.json say what the probe file declares now."""
    (probe,) = read_probe_files(place.path)
    data["hypotheses"][0]["declaration"] = json.loads(readable_json(declaration(probe.hypothesis, probe.claims)))
    data["hypotheses"][0] |= {name: getattr(probe.hypothesis, name) for name in ("sentence", "contrast", "positive")}


def test_registered_before_capture(place, done):
    run(place, *CLAIMS_ALONE, "--junitxml=junit.xml")
    where = folder(place)
    found = results(place, where)
    done |= {"results": found, "found": find_registration(place.path / LOCK, place.path)}
    commit_ = git(place, "rev-parse", "HEAD").strip()
    told = found["hypotheses"][0]["registration"]
    assert told["verdict"] == "before capture" and told["deviations"] == []
    assert told["captured"] == found["hypotheses"][0]["activations"]["begun"]
    assert (found["registration"]["commit"], found["registration"]["date"][:10]) == (commit_, BEFORE[:10])
    assert found["registration"]["counts"] == {"before capture": 1} and found["registration"]["left_out"] == []
    views = [(where / name).read_text() for name in ("summary.md", "cards/toy.md", "report.html")]
    views.append((place.path / "junit.xml").read_text())
    assert all(f"Registered before capture: commit {commit_[:12]}" in view for view in views)
    assert '<property name="registration" value="before capture"' in views[-1]


def test_a_margin_cannot_be_changed_after_capture(place, ran, monkeypatch):
    """The run deviates in all its views; and whatever a lock file then says, its commit is later than capture."""
    write(place, "probes/test_toy.py", (place.path / "probes/test_toy.py").read_text().replace("47", "46"))
    run(place, *CLAIMS_ALONE, "--junitxml=junit.xml")
    where, words = folder(place), "count_t5: margin is 46, registered 47"
    data = results(place, where)
    assert data["hypotheses"][0]["registration"]["deviations"] == [words]
    views = [where / "cards/toy.md", where / "summary.md", where / "report.html", place.path / "junit.xml"]
    assert all(words in view.read_text().replace("\\_", "_") for view in views)
    assert command(place, monkeypatch, "register") == 4  # it is there, and is not written over
    (place.path / LOCK).unlink()
    assert command(place, monkeypatch, "register") == 0
    assert held(find_registration(place.path / LOCK, place.path), data)["verdict"] == "uncommitted"
    commit(place)
    assert held(find_registration(place.path / LOCK, place.path), data)["verdict"] == "after capture"


def test_registered_after_capture(ran):
    found, data = ran
    found.record["date"] = AFTER
    assert held(found, data)["verdict"] == "after capture"
    found.record["date"] = data["hypotheses"][0]["activations"]["begun"]  # not before it
    assert held(found, data)["verdict"] == "after capture"


def test_a_lock_file_that_is_not_committed_has_no_date(place, ran, monkeypatch):
    file = place.path / LOCK
    file.write_text(file.read_text() + "\n")  # the same registration, another file
    told = held(find_registration(file, place.path), ran[1])
    assert told["verdict"] == "uncommitted" and "changed since its last commit" in told["sentence"]
    monkeypatch.setenv("PATH", "")
    told = held(find_registration(file, place.path), ran[1])
    assert told["verdict"] == "undated" and "install it" in told["sentence"]


def test_what_is_not_in_it_is_not_registered(ran):
    found, data = ran
    data["hypotheses"][0]["id"] = "other"
    register_run(found, data)
    assert data["hypotheses"][0]["registration"]["verdict"] == "not registered"
    assert data["registration"]["counts"] == {"not registered": 1} and data["registration"]["left_out"] == ["toy"]
    register_run(Registration(), data)
    assert data["hypotheses"][0]["registration"]["verdict"] == "not registered" and data["registration"] is None


HALF = "\n\n@pytest.mark.claim(SplitHalf(required=0.5))\ndef test_half(verdict):\n    assert verdict.supported\n"
BROKEN_PROBES = {
    "margin": ("margin=47", "margin=46", "count_t5: margin is 46, registered 47"),
    "threshold": ("threshold=5.0", "threshold=4.0", "count_t5: threshold is 4, registered 5"),
    "claim added": ("\n\ndef test_control", f"{HALF}\n\ndef test_control", "claim split_half was added"),
    "claim dropped": ("@pytest.mark.claim(Exceedance(threshold=5.0, margin=47))\n", "", "claim count_t5 was dropped"),
    "rung dropped": ('positive="left"', 'positive="left", controls=("familywise",)', "rung placebo was dropped"),
    "contrast": ("left minus right", "right minus left", "contrast is “right minus left”"),
}


@pytest.mark.parametrize(("old", "new", "words"), BROKEN_PROBES.values(), ids=BROKEN_PROBES)
def test_a_probe_file_that_was_changed(place, ran, old, new, words):
    text = (place.path / "probes/test_toy.py").read_text()
    write(place, "probes/test_toy.py", text.replace(old, new))
    found, data = ran
    declared_again(place, data)
    told = held(found, data)
    assert told["verdict"] == "deviates" and told["deviations"][0].startswith(words) and words in told["sentence"]


def test_a_claim_that_only_a_parameter_of_a_test_makes(ran):
    found, data = ran
    claim = data["hypotheses"][0]["claims"][0]
    data["hypotheses"][0]["claims"].append(claim | {"id": "count_t4", "sentence": "More."})
    assert held(found, data)["deviations"] == ["claim count_t4 was added: More"]


def test_a_rung_that_became_required(ran):
    found, data = ran
    found.lock["hypotheses"][0]["declaration"]["rungs"]["confounds"] = "always"
    del data["hypotheses"][0]["declaration"]["rungs"]["dose"]
    words = ["rung confounds: when it is required is never, registered always", "rung dose was dropped"]
    assert held(found, data)["deviations"] == words


def test_stimuli_that_were_changed(ran):
    found, data = ran
    shown = data["hypotheses"][0]["stimuli"]
    shown |= {"sha256": "1" * 64, "pairs": shown["pairs"][:9]}
    told = held(found, data)["deviations"]
    assert told[0].startswith("stimuli toy.toml changed (sha256 111111111111, registered ")
    assert told[1:] == ["toy: the number of pairs is 9, registered 10"]


def test_an_image_that_was_changed(ran):
    found, data = ran
    found.lock["hypotheses"][0]["stimuli"]["toy"]["images"] = {"p0.a": "0" * 64, "p1.a": "1" * 64}
    for number in range(2):
        member = {"image": "x.png", "prompt": None, "sha256": "1" * 64}
        data["hypotheses"][0]["stimuli"]["pairs"][number]["a"] |= member
    assert held(found, data)["deviations"] == ["image p0.a of toy.toml changed"]


BROKEN_RUNS = {
    "seed": ("options", "seed", 7, "seed is 7, registered 0"),
    "null": ("options", "null", "published", "null is published, registered exact"),
    "permutations": ("options", "permutations", 500, "permutations is 500, registered left open"),
    "twins": ("options", "twins", 2, "twins is 2, registered left open"),
    "random sets": ("options", "random-sets", 99, "random-sets is 99, registered 39"),
    "resolution": ("protocol", "resolution", 128, "resolution is 128, registered 64"),
    "steps": ("protocol", "steps", 2, "steps is 2, registered 1"),
}


@pytest.mark.parametrize(("where", "name", "value", "words"), BROKEN_RUNS.values(), ids=BROKEN_RUNS)
def test_a_run_with_another_protocol(ran, where, name, value, words):
    found, data = ran
    if where == "options":
        data["run"]["options"][name]["value"] = value
    else:
        data["hypotheses"][0]["protocol"][name] = value
    told = held(found, data)
    assert told["verdict"] == "deviates" and told["deviations"] == [words]


def test_what_was_left_open_may_be_anything_and_the_default_may_be_given(ran):
    found, data = ran
    for name, value in (("twins", 3), ("device", "cuda:1"), ("resolution", 64)):
        data["run"]["options"][name]["value"] = value
    data["hypotheses"][0]["protocol"] |= {"device": "cuda", "dtype": "bfloat16", "compiled": True}
    assert held(found, data)["verdict"] == "before capture"
    found.lock["options"] |= {"device": "cuda:0", "dtype": "float32", "compile": "off"}
    words = ["dtype is bfloat16, registered float32", "compile is True, registered off"]
    assert held(found, data)["deviations"] == words


def test_a_model_with_other_files(ran):
    found, data = ran
    found.lock["model"]["fingerprint"] = "0" * 64
    (words,) = held(found, data)["deviations"]
    assert words.startswith("model is klein-tiny (") and words.endswith(", registered klein-tiny (000000000000)")


@pytest.mark.parametrize(
    ("registered_as", "asked", "words"),
    [
        ({"name": "owner/other"}, {}, "model is klein-tiny, registered owner/other"),
        ({}, {"model": "klein"}, "model is black-forest-labs/FLUX.2-klein-base-4B, registered klein-tiny"),
        ({"lora": "/a/b.safetensors"}, {"lora": "/c/b.safetensors"}, None),
        ({"lora": "b.safetensors"}, {}, "LoRA is none, registered b.safetensors"),
        ({"revision": "abc"}, {"revision": "abc"}, None),
        ({"revision": "abc"}, {}, "model revision is left open, registered abc"),
    ],
)
def test_a_model_that_was_registered_by_its_name(ran, registered_as, asked, words):
    found, data = ran
    found.lock["model"] |= {"fingerprint": None, **registered_as}
    for name, value in asked.items():
        data["run"]["options"][name]["value"] = value
    assert held(found, data)["deviations"] == ([words] if words else [])


def test_other_code(ran):
    found, data = ran
    found.lock["suite"] = {"version": "0.0.1", "code_sha256": "0" * 64}
    version = data["provenance"]["suite"]["version"]
    assert held(found, data)["deviations"] == [f"code of the engine changed (version {version}, registered 0.0.1)"]


def test_a_lock_file_that_was_edited_and_committed(place, ran):
    lock = json.loads((place.path / LOCK).read_text())
    lock["hypotheses"][0]["declaration"]["claims"][1]["asks"]["margin"] = 46
    (place.path / LOCK).write_bytes(readable_json(lock))
    commit(place, BEFORE)
    told = held(find_registration(place.path / LOCK, place.path), ran[1])
    assert told["verdict"] == "deviates" and "was edited: the hash in it" in told["deviations"][0]


def test_every_leaf_of_it_is_in_its_hash(place):
    lock = json.loads((place.path / LOCK).read_text())
    assert is_intact(lock) and is_intact(sealed({name: lock[name] for name in lock if name != "sha256"}))
    for *way, last in leaves(lock):
        if last != "sha256" or way:
            broken = copy.deepcopy(lock)
            inner = broken
            for step in way:
                inner = inner[step]
            inner[last] = [inner[last]]
            assert not is_intact(broken), (*way, last)


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for name, inner in items for leaf in leaves(inner, (*path, name))]
    return found or [path]


def test_the_first_activations_count():
    """One segment that is captured again does not make the others new."""
    entry = {"activations": {"begun": "2026-01-01T00:00:00+00:00", "created": "2026-03-01T00:00:00+00:00"}}
    assert first_captured(entry) == "2026-01-01T00:00:00+00:00"
    earlier = {"activations": {"created": "2026-01-01T00:30:00+01:00"}}  # by half an hour
    assert first_captured({"compared": [entry, earlier]}) == "2026-01-01T00:30:00+01:00"
    assert first_captured({"claims": []}) is None


def test_a_hypothesis_of_which_nothing_was_captured(ran):
    found, data = ran
    for name in ("activations", "stimuli", "protocol"):
        del data["hypotheses"][0][name]
    assert held(found, data)["verdict"] == "not captured"


def test_what_differs_is_said_before_what_has_no_date(ran):
    found, data = ran
    found = replace(found, record=found.record | {"commit": None, "problem": "x"})
    assert held(found, data)["verdict"] == "uncommitted"
    found.lock["options"]["seed"] = 5
    assert held(found, data)["verdict"] == "deviates"


@pytest.mark.parametrize("text", ["{", "[]", '{"registration": 2}', "{}"])
def test_a_file_that_is_no_lock_file_is_refused(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(ProbeError, match="fixtures register"):
        load_lock(tmp_path / LOCK)


def test_it_is_refused_before_anything_runs(place):
    (place.path / LOCK).write_text("{}")
    found = run(place, *CLAIMS_ALONE)
    assert found.ret == 4 and LOCK in found.stderr.str()
    found = run(place, "--registration", "none.json")
    assert found.ret == 4 and "no such file" in found.stderr.str()


def test_a_hypothesis_stands_in_it_once(place):
    lock = json.loads((place.path / LOCK).read_text())
    lock["hypotheses"] *= 2
    (place.path / LOCK).write_bytes(readable_json(lock))
    with pytest.raises(ProbeError, match="registered twice"):
        load_lock(place.path / LOCK)


def test_the_page_has_all_of_it_in_the_order_of_the_form(place):
    text, lock = (place.path / "registration.md").read_text(), json.loads((place.path / LOCK).read_text())
    heads = [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]
    assert heads[:4] == ["Title", "Description", "Hypotheses", "Study type"] and heads[-1] == "Other"
    assert heads.index("Sample size") < heads.index("Stopping rule") < heads.index("Statistical models")
    told = (lock["sha256"], lock["suite"]["code_sha256"], lock["stopping"], "margin 47", "klein-tiny", "10 pairs")
    assert all(word in text for word in told)


def test_what_cannot_be_registered_is_said(place, monkeypatch, capsys):
    def refused(*words):
        assert command(place, monkeypatch, "register", *words) == 4
        return capsys.readouterr().err

    assert "no hypothesis 'none'" in refused("none") and "ends in .json" in refused("--to", "lock")
    assert "--seed" in refused("--seed", "x")
    write(place, "probes/test_toy.py", "1 / 0")
    assert "test_toy.py: cannot be imported: ZeroDivisionError" in refused("--to", "other.json")
    write(place, "probes/test_toy.py", PROBE)
    write(place, "stimuli/toy.toml", STIMULI.replace("toy", "toy2") + pairs(1))
    write(place, "probes/test_again.py", PROBE)
    assert "is taken by" in refused("--to", "other.json")


def test_a_model_that_is_not_here_is_registered_by_its_name(place, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(place.path / "hub"))
    options = ("--model", "owner/name", "--revision", "abc", "--to", "other.json", "--stopping", "at 10")
    assert command(place, monkeypatch, "register", "toy", *options) == 0
    lock = load_lock(place.path / "other.json")
    assert (lock["model"]["name"], lock["model"]["revision"], lock["model"]["fingerprint"]) == (
        "owner/name",
        "abc",
        None,
    )
    assert lock["protocol"] is None and lock["stopping"] == "at 10"
    assert "registered by its name and revision" in capsys.readouterr().err
