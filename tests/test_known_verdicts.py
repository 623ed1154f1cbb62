"""Verdicts on record are read from a file that people edit: what is not of its form is named."""

from pathlib import Path

import pytest

from fixtures.common.errors import ProbeError
from fixtures.results.known_verdicts import known_verdict

SHIPPED = Path(__file__).parents[1] / "probes/known_verdicts.toml"
ENTRY = '[[model]]\nrevision = "r"\nverdicts = { h = { count = "refuted" } }\n'


def known(file):
    return known_verdict(file, "verdicts", "h", "count", {"revision": "r", "weights_sha256": None}, {}, {})


def test_the_shipped_file_is_of_the_form_and_one_is_found_with_a_mark_or_without(tmp_path):
    assert known(SHIPPED) is None and known(tmp_path / "none.toml") is None
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "k.toml").write_bytes(ENTRY.encode(encoding))
        assert known(tmp_path / "k.toml") == "refuted"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[model]\nrevision = "r"\n', "field model: expected a valid list"),
        ("model = 3", "field model: expected a valid list"),
        ("model = [1]", r"field model\[0\]: expected a valid dictionary"),
        ("[[modle]]\n", "field modle: unknown"),
        ("[[model]]\nprotocol = 3\n", r"field model\[0\].protocol: expected a valid dictionary"),
        ('[[model]]\nstimuli = "x"\n', r"field model\[0\].stimuli"),
        ('[[model]]\nverdicts = { h = "refuted" }\n', r"field model\[0\].verdicts.h"),
        ('[[model]]\nweights_sha257 = "a"\n', r"field model\[0\].weights_sha257: unknown"),
        (ENTRY.replace("refuted", "refutd"), "h, count is 'refutd'; only 'refuted' is recorded"),
        ("[[model]", "not valid TOML in UTF-8"),
    ],
)
def test_what_is_not_of_the_form_names_file_and_field(tmp_path, text, field):
    (tmp_path / "k.toml").write_text(text)
    with pytest.raises(ProbeError, match=rf"k\.toml: {field}"):
        known(tmp_path / "k.toml")
