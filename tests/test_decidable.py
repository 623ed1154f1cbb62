"""Sets that cannot decide their own claim are named by the checker, and others are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_project import PROBE, STIMULI, pairs, write

import fixtures.__main__
from fixtures.claims.claims import Effect, Exceedance, Share
from fixtures.claims.decidable import RULE, undecidable
from fixtures.claims.hypothesis import Hypothesis, Published
from fixtures.claims.verdict import MINIMUM_PAIRS
from fixtures.statistics.sign_flips import sign_flip_null
from fixtures.stimuli.sets import load_stimuli

pytest_plugins = "pytester"
ROOT = Path(__file__).parents[1]
TRANSPARENCY = load_stimuli(ROOT / "stimuli" / "transparency.toml")
HYPOTHESIS = Hypothesis("transparency", "T", "s", "c", "p")


def found(n, *claims, hypothesis=HYPOTHESIS, of_run=0, **changes):
    kept = [replace(pair, **changes) for pair in TRANSPARENCY.pairs[:n]]
    findings = undecidable(replace(TRANSPARENCY, pairs=tuple(kept)), hypothesis, claims, of_run)
    assert {finding.rule for finding in findings} <= {RULE}
    return [(finding.kind, finding.text) for finding in findings]


def test_a_set_of_twenty_five_pairs_decides_the_shipped_claims():
    assert found(25, Exceedance(3.0, 2.4), Exceedance(5.0, 26), Effect(), Share(3.0, 0.2), of_run=40) == []


def test_too_few_pairs_for_a_verdict():
    kind, text = found(MINIMUM_PAIRS - 1, Effect())[0]
    assert kind == "problem" and "7 pairs decide no claim; expected at least 8" in text


def test_the_smallest_p_of_a_run_of_many_claims():
    (note,) = [text for _, text in found(10, Effect(), of_run=40) if "Holm" in text]
    assert "of 10 pairs no p is below 1/512" in note and note.endswith("40 claims: 11 pairs")
    assert not [text for _, text in found(11, Effect(), of_run=40) if "Holm" in text]


@given(st.integers(8, 25), st.integers(1, 200))
def test_the_pairs_that_it_asks_for_are_the_fewest(n, number):
    """2 ** (n - 1) flips have a p that survives the correction over so many claims, and half of them have not."""
    survives = number * 2.0 ** -(n - 1) <= 0.05
    texts = [text for _, text in found(n, Effect(), of_run=number) if "Holm" in text]
    assert bool(texts) != survives


def test_a_margin_that_asks_for_more_units_than_there_are():
    kind, text = found(8, Exceedance(3.0, 60))[0]
    assert kind == "problem" and "is more units than there are" in text
    card = replace(HYPOTHESIS, published=Published(25, 100, 200, {}))
    (problem,) = found(25, Exceedance(5.0, 101), hypothesis=card)
    assert "asks for more than the 100 units of its card" in problem[1]


def test_chance_gives_the_share_that_it_says():
    """Of normal units without an effect, about Student's share lies beyond the threshold under every flip."""
    differences = np.random.default_rng(0).standard_normal((8, 4000))
    null = sign_flip_null(differences, [3.0]).counts[0]
    by_chance = float(found(8, Exceedance(3.0, 60))[0][1].partition("(")[2].partition(" %")[0]) / 100
    assert null.mean / 4000 == pytest.approx(by_chance, rel=0.15)


def test_a_threshold_beyond_what_the_null_can_tell():
    texts = [text for _, text in found(12, Exceedance(5.0, 2))]
    assert any("|t| > 5 is rarer by chance" in text and "1/2,048" in text for text in texts)
    assert not any("rarer" in text for _, text in found(12, Share(3.0, 0.2)))


def test_too_few_pairs_beside_a_category_or_a_template():
    of_one = tuple(replace(pair, category="x" if n else "y") for n, pair in enumerate(TRANSPARENCY.pairs))
    one = undecidable(replace(TRANSPARENCY, pairs=of_one), HYPOTHESIS, [Effect()])
    assert [finding.kind for finding in one] == ["note"] and "without its category 'x' 1 pairs are left" in one[0].text
    of_one = tuple(replace(pair, template="x" if n else "y") for n, pair in enumerate(TRANSPARENCY.pairs))
    (problem,) = undecidable(replace(TRANSPARENCY, pairs=of_one), HYPOTHESIS, [Effect()])
    assert problem.kind == "problem" and "rung 7 cannot leave it out" in problem.text


def test_too_few_pairs_to_change_units():
    assert any("rungs 9 to 12 need 21" in text for _, text in found(20, Effect()))


def test_the_command_says_so(pytester, monkeypatch, capsys):
    write(pytester, "probes/test_toy.py", PROBE)
    write(pytester, "stimuli/toy.toml", STIMULI + pairs(7))
    monkeypatch.setattr(fixtures.__main__, "ROOT", pytester.path)
    assert fixtures.__main__.main(["check", str(pytester.path / "stimuli/toy.toml")]) == 1
    assert "decides: 7 pairs decide no claim" in capsys.readouterr().out


def test_a_probe_file_that_cannot_be_imported_is_named(pytester, monkeypatch, capsys):
    write(pytester, "probes/test_toy.py", "import no_such_module")
    write(pytester, "stimuli/toy.toml", STIMULI + pairs(7))
    monkeypatch.setattr(fixtures.__main__, "ROOT", pytester.path)
    assert fixtures.__main__.main(["check", str(pytester.path / "stimuli/toy.toml")]) == 1
    assert "test_toy.py: cannot be imported: ModuleNotFoundError" in capsys.readouterr().err
