"""``python -m fixtures known-verdicts``: verdicts on record renewed from a run, all other text left alone."""

import copy
import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import ORDERING, PROMPTS, REFERENCE, stored_run

from fixtures.__main__ import main
from fixtures.claims.ladder import CONTROLS, OBSERVED
from fixtures.results.known_layout import with_entry
from fixtures.results.known_verdicts import known_models, known_verdict
from fixtures.results.renewal import TABLES, renew, renewed
from fixtures.results.spare import is_near, spare

SHIPPED = Path(__file__).parents[1] / "probes/known_verdicts.toml"
RUN = stored_run()
for control, p in zip(
    RUN["hypotheses"][PROMPTS]["controls"][: len(OBSERVED)], (0.9, 0.5, 0.3, 0.2, 0.2, 1.0, 0.064), strict=True
):
    control |= {"verdict": "failed", "p": p, "evidence": {}}
WEIGHTS, SCALE = RUN["model"]["weights_sha256"], RUN["hypotheses"][REFERENCE]
PROTOCOL = RUN["protocol"] | {"null": "exact"}
HEADER = "# Verdicts on record.\n# ---\n\n"
OTHERS = """\
[[model]]
name = "other"  # as it was found
revision = 'r'
verdicts = { physical_scale = { count_t3 = "refuted" } }
#[[model]] that was

"""
LAST = '# other resolution\n[[model]]\nweights_sha256 = "{weights}"\n\n\n[model.protocol]\nresolution = 64 # small\n'
OWN = """\
[[model]]
name = "own"
weights_sha256 = "{weights}"

[model.protocol]
resolution = 128
null = "exact"

[model.stimuli]
gone = "{gone}"
kept = "{kept}"

# why
[model.verdicts]
gone = {{ count_t3 = "refuted" }}
kept = {{ count_t3 = "refuted" }}
order = {{ ordering_t3 = "refuted" }}

[model.controls]
kept.placebo = "failed"
kept.held_out = "failed"
"""


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Place:
    """A run folder, a file of verdicts on record and a folder of stimuli."""

    def __init__(self, folder):
        self.run, self.file, self.stimuli = folder / "run", folder / "known.toml", folder / "stimuli"
        self.run.mkdir()
        self.stimuli.mkdir()
        (self.stimuli / "kept.toml").write_text("kept")
        (self.stimuli / "gone.toml").write_text("another one")

    def renew(self, results=RUN, near=False):
        (self.run / "results.json").write_text(json.dumps(results))
        return renew(self.run, self.file, self.stimuli, near)

    def known(self, hypothesis, what, table="verdicts", **stimuli):
        identity = {"weights_sha256": WEIGHTS, "revision": None}
        return known_verdict(self.file, table, hypothesis, what, identity, PROTOCOL, stimuli)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def own(**changed):
    return OWN.format(**{"weights": WEIGHTS, "gone": sha256("gone"), "kept": sha256("kept")} | changed)


def decided_of(results, table):
    return [(entry, decided) for entry in results["hypotheses"] for decided in entry[TABLES[table]]]


def changed_run(hypothesis=REFERENCE, listed="claims", number=0, **figures):
    results = copy.deepcopy(RUN)
    results["hypotheses"][hypothesis][listed][number] |= figures
    return results


def test_a_run_is_recorded_but_for_what_is_near(place):
    lines = place.renew()
    wanted = {"verdicts": "refuted", "controls": "failed"}
    for table, verdict in wanted.items():
        for entry, decided in decided_of(RUN, table):
            expected = verdict if decided["verdict"] == verdict and not is_near(decided) else None
            assert place.known(entry["id"], decided["id"], table) == expected
    reason = RUN["hypotheses"][PROMPTS]["controls"][len(OBSERVED) - 1]["reason"]
    assert f"near: ethical_valence/held_out: failed: {reason}" in lines
    assert "not evaluated: self_reference/count_t3: stimuli/self_reference.toml: no such file" in "\n".join(lines)
    assert known_models(place.file)[0]["protocol"] == {
        "resolution": 128,
        "text_length": 96,
        "steps": 1,
        "guidance": 1.0,
        "null": "exact",
    }
    compared = {one["id"]: one["stimuli"]["sha256"] for one in RUN["hypotheses"][ORDERING]["compared"]}
    shown = {entry["id"]: entry["stimuli"]["sha256"] for entry in RUN["hypotheses"] if "stimuli" in entry}
    assert known_models(place.file)[0]["stimuli"] == compared | shown
    assert place.known("physical_scale", "count_t3", physical_scale="0" * 64) is None


def test_p_is_named_where_the_reason_does_not(place):
    lines = place.renew(changed_run(PROMPTS, "controls", 0, p=0.051, reason="0 units"))
    assert "near: ethical_valence/familywise: failed: 0 units, p = 0.051" in lines


def test_what_is_near_is_recorded_when_asked_for(place):
    lines = place.renew(near=True)
    assert place.known("ethical_valence", "held_out", "controls") == "failed"
    assert any(line.startswith("near: ethical_valence/held_out") for line in lines)
    lines = place.renew()
    assert place.known("ethical_valence", "held_out", "controls") is None
    assert "no longer on record: ethical_valence/held_out" in lines


def test_the_same_run_again_changes_nothing(place):
    place.renew()
    before = place.file.read_bytes(), place.file.stat().st_mtime_ns
    assert place.renew()[-1] == f"{place.file}: as before"
    assert (place.file.read_bytes(), place.file.stat().st_mtime_ns) == before


def test_the_shipped_file_is_laid_out_as_the_command_lays_it_out():
    text = SHIPPED.read_text()
    for number, entry in enumerate(known_models(SHIPPED)):
        assert with_entry(text, number, entry) == text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_other_entries_and_comments_stay_byte_for_byte(place, end):
    before, after = HEADER + OTHERS + "# of the next one\n", "\n# between\n\n" + LAST.format(weights=WEIGHTS)
    place.file.write_bytes((before + own() + after).replace("\n", end).encode())
    place.renew()
    text = place.file.read_bytes().decode()
    assert text.startswith(before.replace("\n", end)) and text.endswith(after.replace("\n", end))
    assert text.count(end) == text.count("\n")
    middle = text[len(before.replace("\n", end)) : -len(after.replace("\n", end))].replace("\r", "")
    assert "\n\n# why\n[model.verdicts]\n" in middle and middle.startswith('[[model]]\nname = "own"\n')
    assert "[model.protocol]\nresolution = 128\nnull = " in middle and "steps" not in middle
    assert [entry.get("name") for entry in known_models(place.file)] == ["other", "own", None]


def test_a_new_entry_comes_last_and_all_that_was_there_stays(place):
    for text in (HEADER, HEADER + OTHERS + LAST.format(weights=WEIGHTS).rstrip()):
        place.file.write_text(text)
        place.renew()
        found = place.file.read_text()
        assert found.startswith(text) and '\n\n[[model]]\nname = "klein-mini+arrow"\n' in found
        assert known_models(place.file)[-1]["name"] == RUN["model"]["name"]


def test_hypotheses_that_the_run_did_not_hold_stay_while_their_stimuli_do(place):
    place.file.write_text(own())
    lines = place.renew()
    assert place.known("kept", "count_t3") == "refuted" and place.known("kept", "placebo", "controls") == "failed"
    assert known_models(place.file)[0]["stimuli"]["kept"] == sha256("kept")
    assert place.known("gone", "count_t3") is None and "gone" not in known_models(place.file)[0]["stimuli"]
    assert "stimuli changed: gone" in lines and "no longer on record: gone/count_t3" in lines
    assert place.known("order", "ordering_t3") is None  # one of the stimuli that it may compare has changed
    (place.stimuli / "gone.toml").write_text("gone")
    place.file.write_text(own())
    place.renew()
    assert place.known("gone", "count_t3") == place.known("order", "ordering_t3") == "refuted"


def test_what_the_run_left_out_of_a_hypothesis_stays_and_what_it_decided_otherwise_goes(place):
    results = changed_run(verdict="supported", observed=100)
    place.renew()
    del results["hypotheses"][REFERENCE]["claims"][1]
    first, second = (claim["id"] for claim in SCALE["claims"][:2])
    place.renew(results)
    assert place.known(SCALE["id"], first) is None and place.known(SCALE["id"], second) == "refuted"
    results["hypotheses"][REFERENCE]["stimuli"]["sha256"] = "0" * 64
    for compared in results["hypotheses"][ORDERING]["compared"]:
        compared["stimuli"]["sha256"] = "0" * 64
    place.renew(results)
    assert place.known(SCALE["id"], second) is None


def test_what_was_not_evaluated_stays_as_recorded_and_other_verdicts_are_none_to_record(place):
    place.renew()
    lines = place.renew(changed_run(verdict="not evaluated", reason="no\nmemory", observed=None))
    assert place.known(SCALE["id"], "count_t3") == "refuted"
    assert "not evaluated: physical_scale/count_t3: no memory" in lines
    place.renew(changed_run(verdict="inconclusive"))
    assert place.known(SCALE["id"], "count_t3") is None
    other = copy.deepcopy(RUN)
    other["hypotheses"][REFERENCE]["controls"][0]["verdict"] = "not climbed"
    entry, _ = renewed(known_models(place.file)[0], other, set())
    assert "familywise" not in entry["controls"][SCALE["id"]]


def hub(revision):
    results = copy.deepcopy(RUN)
    results["model"] |= {"weights_sha256": None, "revision": revision}
    return results


def test_a_hub_model_is_known_by_its_commit(place):
    place.renew(hub("a" * 40))
    (entry,) = known_models(place.file)
    assert entry["revision"] == "a" * 40 and "weights_sha256" not in entry


def unfinished():
    results = copy.deepcopy(RUN)
    results["run"]["finished"] = None
    return results


@pytest.mark.parametrize(
    ("results", "text", "message"),
    [
        (hub(None), "", "has neither weights_sha256 nor revision"),
        (unfinished(), "", "the run was not finished"),
        (RUN | {"protocol": {}}, "", "the run measured nothing"),
        (RUN | {"schema": 99}, "", r"results\.json: version 99 of results\.json, newer than"),
        (RUN, own() + own(), r"known\.toml: entries 1, 2 are all of the model and protocol"),
        (RUN, f'model = [{{ weights_sha256 = "{WEIGHTS}" }}]\n', r"known\.toml: expected every model as a table"),
        (RUN, "[[modle]]\n", r"known\.toml: field modle: unknown"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(place, capsys, results, text, message):
    place.file.write_text(text)
    (place.run / "results.json").write_text(json.dumps(results))
    assert main(["known-verdicts", str(place.run), "--file", str(place.file)]) == 4
    found = capsys.readouterr()
    assert found.out == "" and place.file.read_text() == text
    assert re.search(message, found.err)


def test_the_command_writes_and_says_what_it_has_written(place, capsys):
    assert main(["known-verdicts", str(place.run), "--file", str(place.file)]) == 4
    assert "run/results.json: cannot be read (No such file or directory)" in capsys.readouterr().err
    (place.run / "results.json").write_text(json.dumps(RUN))
    for near, verdict in (("", None), ("--near", "failed")):
        assert main(["known-verdicts", str(place.run), "--file", str(place.file), *near.split()]) == 0
        assert place.known("ethical_valence", "held_out", "controls") == verdict
    out = capsys.readouterr().out
    assert "now on record: physical_scale/count_t3\n" in out and f"{place.file}: klein-mini+arrow added\n" in out
    assert main(["known-verdicts", str(place.run), "--file", str(place.run)]) == 4
    assert "ERROR: " in capsys.readouterr().err


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
lists = st.dictionaries(words, st.dictionaries(words, st.just("refuted"), min_size=1, max_size=3), max_size=3)
scalars = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | words
entries = st.fixed_dictionaries(
    {},
    optional={
        "name": words,
        "weights_sha256": words,
        "protocol": st.dictionaries(words, scalars, max_size=3),
        "stimuli": st.dictionaries(words, words, max_size=3),
        "verdicts": lists,
        "controls": st.dictionaries(
            words, st.dictionaries(words | st.sampled_from(CONTROLS), st.just("failed"), min_size=1), max_size=3
        ),
    },
)


@given(st.lists(entries, max_size=3), entries, st.data())
def test_any_entry_that_is_written_is_read_again_and_written_alike(others, entry, data):
    text = HEADER
    for other in others:
        text = with_entry(text, None, other)
    number = data.draw(st.sampled_from([None, *range(len(others))]))
    text = with_entry(text, number, entry)
    place = len(others) if number is None else number
    assert tomllib.loads(text)["model"] == [*others[:place], entry, *others[place + 1 :]]
    assert with_entry(text, place, entry) == text and text.startswith(HEADER)


verdicts = st.sampled_from(["supported", "refuted", "inconclusive", "not evaluated"])
outcomes = st.sampled_from(["passed", "failed", "not evaluated", "not climbed"])


@given(
    st.lists(verdicts, min_size=4, max_size=4),
    st.lists(outcomes, min_size=len(CONTROLS), max_size=len(CONTROLS)),
    st.booleans(),
)
def test_recorded_is_what_was_refuted_or_failed_and_is_not_near(claimed, found, with_near):
    entry = copy.deepcopy({name: SCALE[name] for name in ("id", "stimuli", *TABLES.values())})
    for listed, outcome in (("claims", claimed), ("controls", found)):
        for decided, verdict in zip(entry[listed], outcome, strict=True):
            decided["verdict"] = verdict
    known, _ = renewed({"weights_sha256": WEIGHTS}, {"hypotheses": [entry]}, set(), with_near)
    for table, listed in TABLES.items():
        expected = {
            decided["id"]: decided["verdict"]
            for decided in entry[listed]
            if decided["verdict"] in ("refuted", "failed") and (with_near or not is_near(decided))
        }
        assert known.get(table, {}).get(SCALE["id"], {}) == expected


def claim(verdict, observed, required):
    return SCALE["claims"][0] | {"verdict": verdict, "observed": observed, "required": required}


def control(verdict, p, evidence):
    return SCALE["controls"][0] | {"verdict": verdict, "p": p, "evidence": evidence}


def amplified(verdict, ratio, p, **more):
    """The entry of a claim of an amplification, which needs 1.25 and a small p."""
    figures = {"observed": ratio, "required": 1.25, "ratio": ratio, "margin": 1.25, "p": p}
    return SCALE["claims"][0] | {"id": "amplification", "kind": "amplification", "verdict": verdict} | figures | more


def replicated(verdict, pair, noise, p=0.5, **more):
    """The entry of rung 7, decided by effects in percent: without any one pair, and under other noise."""
    evidence = {"without_one_pair": {"percent": pair, "p": p}, "second_seed": {"percent": noise, "p": p}, **more}
    return control(verdict, p, evidence) | {"id": "replication"}


@pytest.mark.parametrize(
    ("entry", "near"),
    [
        (claim("refuted", 90, 100), True),
        (claim("refuted", 89, 100), False),
        (claim("supported", 110, 100), True),
        (claim("supported", 111, 100), False),
        (claim("refuted", 1, 2.0), True),  # one unit
        (claim("refuted", 0, 2.0), False),
        (claim("refuted", 0.27, 0.287), True),  # a correlation
        (claim("refuted", 0.02, 0.287), False),
        (claim("inconclusive", 100, 100), False),
        (claim("not evaluated", None, 100), False),
        (control("failed", 0.051, {}), True),
        (control("failed", 0.075, {}), True),
        (control("failed", 0.076, {}), False),
        (control("passed", 0.034, {}), True),
        (control("passed", 0.033, {}), False),
        (control("passed", 0.0, {}), False),
        (control("failed", None, {}), False),
        (control("not climbed", 0.051, {}), False),
        (control("failed", 0.9, {"observed": 99, "required": 100}), False),  # p is far, whatever the count does
        (control("failed", 0.04, {"observed": 10, "required": 100}), False),  # the count alone was missed
        (control("failed", 0.04, {"observed": 99, "required": 100}), True),
        (control("failed", 0.04, {"observed": 200, "required": 100}), True),  # by something that is not read
        (control("passed", 0.001, {"observed": 101, "required": 100}), True),
        (control("passed", 0.001, {"deep": {"counts": [{"observed": 101, "required": 100}]}}), True),
        (control("passed", 0.04, {"observed": 1, "required": 100}), True),  # passed although: no figure that decides
        (control("passed", 0.001, {"observed": "many", "required": True}), False),
        (control("failed", 0.001, {"amplification": {"ratio": 1.2, "margin": 1.25}}), True),
        (control("failed", 0.001, {"amplification": {"ratio": 1.1, "margin": 1.25}}), False),
        (control("failed", 0.9, {"amplification": {"ratio": 1.2, "margin": 1.25}}), False),  # p is far
        (control("passed", 0.001, {"sets": [{"selectivity": {"ratio": 1.3, "margin": 1.25}}]}), True),
        (control("passed", 0.001, {"sets": [{"selectivity": {"ratio": 2.0, "margin": 1.25}}]}), False),
        (amplified("supported", 1.3, 0.001), True),
        (amplified("supported", 2.0, 0.001), False),
        (amplified("supported", 2.0, 0.04), True),
        (amplified("refuted", 1.2, 0.9), False),
        (amplified("refuted", 2.0, 0.06), True),
        (replicated("passed", 2.0, 0.41), True),
        (replicated("passed", 2.0, 2.0, p=0.05), False),  # whatever p, which decides nothing
        (replicated("failed", 0.38, 0.37), True),
        (replicated("failed", 0.38, 0.1), False),
        (replicated("failed", 2.0, 0.38, without_one_template={"reason": "one alone"}), True),
        (replicated("failed", 2.0, 0.38, without_one_category={"percent": 0.1}), True),  # decides nothing
        (replicated("failed", 2.0, 0.38, without_one_template={"percent": 0.1}), False),
    ],
)
def test_near_is_what_rounding_may_turn(entry, near):
    assert is_near(entry) == near


def test_of_rows_by_threshold_the_lowest_that_is_claimed_decides():
    rows = [{"threshold": t, "observed": n, "required": r} for t, n, r in ((2, 9, None), (3, 300, 100), (5, 51, 50))]
    assert not is_near(control("passed", 0.001, {"adjusted": rows}))
    assert is_near(control("passed", 0.001, {"adjusted": rows[::2]}))
    sets = [{"counts": rows}, {"counts": rows[2:]}]
    assert is_near(control("passed", 0.001, {"sets": sets}))


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 1000))
def test_a_count_further_from_what_is_required_has_more_to_spare(observed, required, more):
    low, high = (claim("supported", required + extra, required) for extra in sorted((observed, observed + more)))
    assert 0 <= spare(low) <= spare(high)
    assert spare(low) == pytest.approx(observed / max(required / 10, 1))
