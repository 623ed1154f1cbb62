import copy
import json
import threading

import numpy as np
import pytest
from baseline_factory import baseline, entry, head, t_maps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.baseline.document import Baseline, check_same, load_baseline, merged, save_baseline, tensor_file
from fixtures.baseline.entry import image_digests
from fixtures.common.errors import ProbeError
from fixtures.common.files import sha256_of

MAPS = {name: t_maps(4, np.random.default_rng(seed)) for seed, name in enumerate("abcd")}
names = st.sets(st.sampled_from(sorted(MAPS)), min_size=1)
in_folder = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def of(chosen) -> Baseline:
    chosen = sorted(chosen)
    return Baseline(head(), {name: entry(MAPS[name]) for name in chosen}, {name: MAPS[name] for name in chosen})


def same(one: Baseline, other: Baseline) -> bool:
    maps = one.maps.keys() == other.maps.keys() and all(np.array_equal(one.maps[k], other.maps[k]) for k in one.maps)
    return maps and one.head == other.head and one.hypotheses == other.hypotheses


def content(file) -> tuple[bytes, bytes]:
    return file.read_bytes(), tensor_file(file).read_bytes()


@in_folder
@given(names)
def test_what_is_saved_is_read_back(tmp_path, chosen):
    file = tmp_path / "b.json"
    file.unlink(missing_ok=True)
    save_baseline(file, of(chosen))
    found = load_baseline(file)
    assert found.hypotheses == of(chosen).hypotheses and found.head == head()
    for name in chosen:
        assert np.array_equal(found.maps[name][0], MAPS[name][0])  # the run's own t, bit by bit
        np.testing.assert_allclose(found.maps[name], MAPS[name], rtol=1e-6)


@in_folder
@given(names, names)
def test_saving_is_idempotent_and_the_order_of_hypotheses_does_not_matter(tmp_path, one, other):
    files = [tmp_path / f"{name}.json" for name in "xyz"]
    for file in files:
        file.unlink(missing_ok=True)
    for chosen in (one, other, other, one):
        save_baseline(files[0], of(chosen))
    for chosen in (other, one):
        save_baseline(files[1], of(chosen))
    save_baseline(files[2], of(one | other))
    assert content(files[0])[1] == content(files[1])[1] == content(files[2])[1]
    assert content(files[0])[0] == content(files[1])[0] == content(files[2])[0]


@given(names, names, names)
def test_merging_groups_as_it_likes(one, two, three):
    left = merged(merged(of(one), of(two)), of(three))
    assert same(left, merged(of(one), merged(of(two), of(three)))) and same(merged(left, left), left)
    assert set(left.hypotheses) == one | two | three


def test_a_partial_run_keeps_the_claims_that_it_did_not_decide():
    old, new = of("a"), of("a")
    decided = {"claims": {"count_t5": {"verdict": "refuted"}}, "controls": {}}
    new = Baseline(new.head, {"a": new.hypotheses["a"] | decided}, new.maps)
    found = merged(old, new).hypotheses["a"]
    assert set(found["claims"]) == {"count_t3", "count_t5"} and set(found["controls"]) == {"placebo"}
    other = copy.deepcopy(new)
    other.hypotheses["a"]["stimuli"]["sha256"] = "2" * 64
    assert set(merged(old, other).hypotheses["a"]["claims"]) == {"count_t5"}  # claims about other stimuli are void


@in_folder
@given(st.data())
def test_any_changed_byte_is_refused_by_name(tmp_path, data):
    file = tmp_path / "b.json"
    file.unlink(missing_ok=True)
    save_baseline(file, of("ab"))
    victim = data.draw(st.sampled_from([file, tensor_file(file)]))
    raw = bytearray(victim.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    if victim == file:
        try:
            if json.loads(raw) == json.loads(file.read_bytes()):
                return  # white space for white space
        except ValueError:
            pass
    victim.write_bytes(raw)
    with pytest.raises(ProbeError, match=str(tmp_path / "b")):
        load_baseline(file)
    with pytest.raises(ProbeError, match=str(tmp_path / "b")):
        save_baseline(file, of("c"))
    assert victim.read_bytes() == raw  # nothing is mended silently


@pytest.mark.parametrize("damage", ["no tensors", "cut", "no json", "foreign", "old schema"])
def test_a_file_that_is_not_whole_is_refused_by_name(tmp_path, damage):
    file = tmp_path / "b.json"
    save_baseline(file, of("a"))
    if damage == "no tensors":
        tensor_file(file).unlink()
    elif damage == "cut":
        tensor_file(file).write_bytes(tensor_file(file).read_bytes()[:-8])
    elif damage == "no json":
        file.unlink()
    elif damage == "foreign":
        file.write_text('{"model": 1}')
    else:
        file.write_text(file.read_text().replace('"schema": 1', '"schema": 0'))
    with pytest.raises(ProbeError, match=str(tmp_path / "b")):
        load_baseline(file)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (head("update"), r"another model: fingerprint is model \(modelmodelmo\), now update"),
        (head(seed=3), "another protocol: seed is 0, now 3"),
        (head() | {"null": {"method": "published", "permutations": None}}, "another null: method is exact, now publ"),
        (head() | {"protocol": head()["protocol"] | {"resolution": 64}}, "protocol: resolution is 128, now 64"),
    ],
)
def test_two_models_or_protocols_do_not_share_a_file(tmp_path, other, message):
    file = tmp_path / "b.json"
    save_baseline(file, of("a"))
    before = content(file)
    with pytest.raises(ProbeError, match=f"{file}.*{message}"):
        save_baseline(file, Baseline(other, of("b").hypotheses, of("b").maps))
    assert content(file) == before
    check_same(file, head(), head() | {"weights": {}})  # weights follow from the fingerprint


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProbeError, match="--save-baseline .*b.json: cannot be written"):
        save_baseline(tmp_path / "file" / "b.json", of("a"))


def test_savers_at_the_same_time_lose_nothing(tmp_path):
    file = tmp_path / "b.json"
    threads = [threading.Thread(target=save_baseline, args=(file, of(name))) for name in "abcd" * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(load_baseline(file).hypotheses) == set("abcd")


def test_the_file_is_small(tmp_path):
    save_baseline(tmp_path / "b.json", baseline(t_maps(6, np.random.default_rng(0))))
    assert (tmp_path / "b.json").stat().st_size < 10_000


def test_images_of_a_hypothesis_are_those_of_its_members_and_references():
    def member(name, prompt):
        return {"image": f"{name}.png", "sha256": name, "prompt": prompt}

    told = {"image": None, "sha256": None, "prompt": "x"}
    pair = {"a": told, "b": told, "reference": member("scene", "a street")}
    stimuli = {"pairs": [pair], "reference": None}
    assert image_digests(stimuli) == {"given_images": None, "generated_images": sha256_of(["scene"])}
    own = {"pairs": [pair | {"reference": member("own", None)}], "reference": None}
    assert image_digests(own) == {"given_images": sha256_of(["own"]), "generated_images": None}
    shown = {
        "pairs": [{"a": member("a", "p"), "b": member("b", "q"), "reference": None}],
        "reference": member("r", None),
    }
    assert image_digests(shown) == {"given_images": sha256_of(["r"]), "generated_images": sha256_of(["a", "b"])}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("hypotheses", "a", "n_pairs"), "25", r"hypotheses\.a\.n_pairs: expected a valid integer, got '25'"),
        (("hypotheses", "a", "counts", 0, "seeds"), None, r"hypotheses\.a\.counts\[0\]\.seeds: expected a valid list"),
        (("sites", 1, "width"), 3, r"sites\[1\]\.width: unknown"),
        (("null",), {"method": "exact"}, r"null\.permutations: missing"),
    ],
)
def test_a_field_that_is_not_of_the_form_is_named(tmp_path, path, value, message):
    """Also where both hashes are right, as in a file that another program has written."""
    file = tmp_path / "b.json"
    save_baseline(file, of("a"))
    data = json.loads(file.read_text())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    del data["sha256"]
    file.write_text(json.dumps(data | {"sha256": sha256_of(data)}))
    with pytest.raises(ProbeError, match=f"{file}: field {message}.*Put the right file back"):
        load_baseline(file)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"a": 1}', "JSON of another kind. Expected a baseline"),
        ("[]", "JSON of another kind"),
        ("null", "JSON of another kind"),
        ('{"schema": 1, "run": {}}', "the results.json of a run"),
        ('{"schema": 9}', "a baseline of a newer schema"),
        ('{"schema": 1}', "the baseline is damaged: it has no hypotheses"),
        ('{"schema": 1, "hypotheses": {}, "x": NaN}', "the baseline is damaged: it was changed after it was saved"),
        ('{"schema": 1, "hypotheses": {}, "x": "\\ud800"}', "the baseline is damaged: it was changed"),
        ("", r"the baseline is damaged: not valid JSON in UTF-8: Expecting value"),
        ("half", r"the baseline is damaged: not valid JSON in UTF-8"),
    ],
)
def test_a_foreign_file_and_a_damaged_one_are_told_apart(tmp_path, text, cause):
    file = tmp_path / "b.json"
    if text == "half":
        save_baseline(file, of("a"))
        text = file.read_text()[: file.stat().st_size // 2]
    file.write_text(text)
    with pytest.raises(ProbeError, match=f"{file}: {cause}"):
        load_baseline(file)


def test_a_baseline_that_an_editor_of_windows_has_saved_is_read(tmp_path):
    file = tmp_path / "b.json"
    save_baseline(file, of("a"))
    file.write_bytes(file.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_baseline(file).head == head()
