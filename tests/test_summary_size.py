"""summary.md stays below what GitHub shows of a step, whatever the run."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import make_results

from fixtures.report.markdown import within
from fixtures.report.text_views import SUMMARY_BYTES, summary_markdown


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=90), max_size=40), st.integers(200, 3000))
def test_whole_lines_are_kept_from_the_start_and_the_rest_is_counted(lines, limit):
    text = within(lines, limit)
    whole = "".join(line.encode("utf-8", "replace").decode() + "\n" for line in lines)
    assert len(text.encode()) <= limit
    if len(whole.encode()) <= limit:
        assert text == whole
    else:
        kept, cut = text.split("\n**Cut here: ")
        assert whole.startswith(kept) and (not kept or kept.endswith("\n"))
        assert cut.startswith(f"{len(lines) - kept.count(chr(10)):,} of {len(lines):,} lines are left out.")


def test_a_run_of_thousands_of_hypotheses_is_cut_and_says_so(tmp_path):
    results = make_results(tmp_path, side=16)
    assert "Cut here" not in summary_markdown(results)
    for number in range(800):
        entry = copy.deepcopy(results["hypotheses"][number % 3])
        entry["title"] = f"Hypothesis {number}, with a title “as long” as titles are"
        results["hypotheses"].append(entry)
    text = summary_markdown(results)
    assert 0.95 * SUMMARY_BYTES < len(text.encode()) <= SUMMARY_BYTES < 2**20
    assert text.splitlines()[-1].startswith("**Cut here: ") and "results.json has everything" in text


def test_one_reason_of_two_megabytes_does_not_get_through(tmp_path):
    results = make_results(tmp_path, side=16)
    claim = results["hypotheses"][3]["claims"][0]
    claim["reason"] = "é" * 1_000_000
    text = summary_markdown(results)
    assert len(text.encode()) <= SUMMARY_BYTES and text.endswith("results.json has everything.**\n")
