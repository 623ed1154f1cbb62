"""Results of older versions: real ones, of each version that there was, brought up to date, or refused by its number.

``data/old_results/<version>.json`` are runs of small models by the suite of their day, cut to one hypothesis and short
lists.
"""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from old_results import FILES, READ, old
from report_factory import stored_run

from fixtures.__main__ import main
from fixtures.common.errors import ProbeError
from fixtures.report.cards.model_index import model_index
from fixtures.report.overview import claims_table_html
from fixtures.report.text_views import summary_markdown
from fixtures.results.migrations import ADDED, MIGRATIONS, filled, lacks
from fixtures.results.schema import SCHEMA, validate
from fixtures.results.versions import OLDEST, brought_up, load_results, version_of

ABSENT = object()


def leaves(value, place=()):
    """(place, value) of everything in a document that holds nothing else; an empty list or object is such."""
    if isinstance(value, dict | list) and value:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*place, name))
    else:
        yield place, value


def test_there_is_a_real_document_of_every_version():
    assert sorted(FILES) == list(range(1, SCHEMA + 1)) and list(MIGRATIONS) == list(range(OLDEST, SCHEMA))
    assert [version_of(old(version)) for version in sorted(FILES)] == sorted(FILES)


@pytest.mark.parametrize("version", READ)
def test_an_older_document_gets_todays_form_and_no_figure_that_it_did_not_have(version):
    data = old(version)
    before = json.dumps(data)
    results, found = brought_up(data)
    assert json.dumps(data) == before and found == version
    validate(results)
    was, now = dict(leaves(data)), dict(leaves(results))
    assert now.pop(("schema",)) == SCHEMA and was.pop(("schema",)) in (1, SCHEMA)
    assert {place: now[place] for place in was} == was, "what was there stays"
    added = {place: value for place, value in now.items() if place not in was}
    assert all(value is None or value == [] for value in added.values())
    assert bool(added) == (version < SCHEMA)
    assert brought_up(results) == (results, SCHEMA)


def test_a_document_of_version_1_is_refused_by_its_number_with_what_to_do():
    with pytest.raises(
        ProbeError, match=rf"then\.json: version 1 .* Versions {OLDEST} to {SCHEMA} are read.*Run the p"
    ):
        brought_up(old(1), "then.json")


@pytest.mark.parametrize("version", [SCHEMA + 1, 99])
def test_a_newer_document_is_refused_by_its_number(version):
    with pytest.raises(
        ProbeError, match=rf"version {version} .*newer than {SCHEMA}.* Use the version of the suite that"
    ):
        brought_up(stored_run() | {"schema": version})


@pytest.mark.parametrize("stated", [ABSENT, None, "8", 0, -1, True, 2.0])
def test_what_has_no_version_is_refused_as_no_document(stated):
    data = {name: value for name, value in stored_run().items() if name != "schema"}
    data |= {} if stated is ABSENT else {"schema": stated}
    with pytest.raises(ProbeError, match="field schema: "):
        brought_up(data)


def test_a_field_at_fault_is_named_with_the_version():
    data = old(3)
    data["hypotheses"][0]["n_pairs"] = "many"
    with pytest.raises(ProbeError, match=r"x \(version 3 of results\.json\): field hypotheses\[0\]\.n_pairs: expected"):
        brought_up(data, "x")


@pytest.mark.parametrize("version", MIGRATIONS)
def test_a_migration_gives_what_its_version_lacks_and_nothing_twice(version):
    data = old(version)
    assert lacks(data, ADDED[version])
    once = MIGRATIONS[version](data)
    assert not lacks(once, ADDED[version]) and MIGRATIONS[version](once) == once


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PARTS = ("model", "axes", "hypotheses", "baseline")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.sampled_from(PARTS), json_values, st.booleans())
def test_a_document_that_is_broken_anywhere_is_brought_up_or_refused(version, part, value, inside):
    data = copy.deepcopy(old(version))
    if inside and part == "hypotheses":
        name = sorted(data[part][0])[version]
        data[part][0][name] = value
    else:
        data[part] = value
    try:
        results, _ = brought_up(data)
    except ProbeError:
        return
    validate(results)


def test_what_is_unknown_is_not_shared_between_records():
    record = {"hypotheses": [{"effect": {}}, {"effect": {}}]}
    one, two = filled(record, ADDED[2])["hypotheses"]
    one["effect"]["cells"].append(1)
    assert two["effect"]["cells"] == [] and record == {"hypotheses": [{"effect": {}}, {"effect": {}}]}


@pytest.mark.parametrize("version", READ)
def test_every_view_draws_an_older_document(version):
    results, _ = brought_up(old(version))
    title = results["hypotheses"][0]["title"]
    html = claims_table_html(results)
    assert (
        title in html and title in summary_markdown(results) and results["hypotheses"][0]["id"] in model_index(results)
    )


def test_the_command_writes_the_new_form_beside_and_leaves_the_old(tmp_path, capsys):
    source, target = tmp_path / "old.json", tmp_path / "new.json"
    source.write_bytes(FILES[2].read_bytes())
    assert main(["import", str(source), str(target)]) == 0
    assert f"version 2 of results.json, now {SCHEMA}" in capsys.readouterr().out
    assert source.read_bytes() == FILES[2].read_bytes() and load_results(target) == brought_up(old(2))[0]
    for there in (source, target):
        assert main(["import", str(source), str(there)]) == 4 and "is there" in capsys.readouterr().err
    other = tmp_path / "other.json"
    assert main(["import", str(FILES[1]), str(other)]) == 4 and "version 1" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "gone.json"), str(other)]) == 4
    assert main(["import", str(source), str(source / "below.json")]) == 4
    assert "cannot be written" in capsys.readouterr().err


def test_results_of_two_versions_have_the_same_fields():
    """So that they can be held beside each other: nothing that reads one of them fails on the other."""
    then, now = (brought_up(old(version))[0]["hypotheses"][0] for version in (3, 6))
    missing = {"uses", "halted", "brief"}  # that a statement may lack
    assert set(now) - set(then) <= missing and set(now["effect"]) == set(then["effect"])
    assert then["statement"].keys() | missing == now["statement"].keys() | missing


def test_the_page_says_which_versions_are_read():
    text = " ".join((Path(__file__).parents[1] / "docs" / "share_results.md").read_text().split())
    assert f"Today's is {SCHEMA}." in text and f"Versions {OLDEST} to {SCHEMA} are read" in text
