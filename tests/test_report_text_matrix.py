"""The matrix on the terminal: it fits, it is complete, and it says what results.json says."""

import re
import string
from fnmatch import fnmatchcase
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.claims.ladder import CAUSAL, CONTROLS, LADDER
from fixtures.claims.statement import statement
from fixtures.report.parts.text_fit import end, middle, wrapped
from fixtures.report.text_matrix import counts, ended_line, matrix, statements, verdict_rows
from fixtures.session.summary import MOST, write_summary

VERDICTS = ("passed", "failed", "not evaluated", "not climbed")
REASON = "pose.toml declares no placebo – and this reason goes on for longer than any line of a terminal has columns"


class Paper:
    """As much of pytest's terminal reporter as is written to."""

    def __init__(self, width, verbose=0):
        self.text = ""
        self.config = SimpleNamespace(
            option=SimpleNamespace(verbose=verbose),
            get_terminal_writer=lambda: SimpleNamespace(fullwidth=width),
        )

    def write(self, text, **markup):
        self.text += text

    def line(self, text, **markup):
        self.text += text + "\n"

    write_line = line

    def section(self, title):
        self.line(f"= {title} =")

    @property
    def lines(self):
        return self.text.splitlines()


def claim(verdict="supported", p=1e-6, recorded=None):
    found = {"id": "effect", "test": "t", "kind": "effect", "verdict": verdict, "p": p, "p_holm": p, "reason": REASON}
    return found | {"observed": 2.5, "recorded": recorded}


def hypothesis(name="pose", verdicts=("passed",) * 7, first="supported", placebo=("q",), causal=None, **others):
    """A record as results.json has one; ``verdicts`` are those of rungs 2 to 8, ``causal`` those of 9 to 12 ("not
    climbed" where nothing is said), ``first`` that of the claim."""
    verdicts = (*verdicts, *(causal or ("not climbed",) * 4))
    controls = [
        {"id": control, "test": control, "verdict": verdict, "reason": REASON, "recorded": None, "evidence": {}}
        for control, verdict in zip(CONTROLS, verdicts, strict=True)
    ]
    record = {"id": name, "claims": [claim(first)], "controls": controls, "reason": None, "n_pairs": 25}
    record |= {"stimuli": {"placebo": list(placebo)}} | others
    return record | {"statement": statement(record)}


def text(line):
    return "".join(piece for piece, _ in line)


def row(record, width=80):
    return text(matrix({"hypotheses": [record]}, width)[1])


PASS, OPEN = ("passed",) * 7, "not evaluated"
FIRST = {"first": "refuted", "verdicts": ("not climbed",) * 7}
EFFECT = {"absent_p": 0.9, "power": 0.1, "p": 0.5, "percent": 0.1, "smallest": 0.39, "pairs": 1256}
EXCLUDED = EFFECT | {"absent_p": 1e-9, "power": 1.0}
names = st.text(string.ascii_letters + string.digits + "_é–\u0000\n", min_size=1, max_size=60)
hypotheses = st.builds(
    hypothesis,
    name=names,
    verdicts=st.tuples(*[st.sampled_from(VERDICTS)] * 7),
    causal=st.tuples(*[st.sampled_from(VERDICTS)] * 4),
    first=st.sampled_from(("supported", "refuted", "inconclusive", "not evaluated")),
    placebo=st.sampled_from(((), ("q",))),
    effect=st.sampled_from((None, EFFECT, EXCLUDED)),
    compares=st.sampled_from(((), (), (), ("a", "b"))),
)
runs = st.lists(hypotheses, min_size=4, max_size=25).map(lambda found: {"model": {"name": "m"}, "hypotheses": found})


@settings(deadline=None, max_examples=40)
@given(results=runs, width=st.integers(40, 200))
def test_no_line_is_wider_than_the_terminal_and_each_hypothesis_has_its_own(results, width):
    found = results["hypotheses"]
    lines = [*map(text, matrix(results, width)), *map(text, verdict_rows(results, width))]
    lines += wrapped(counts(results), width) + statements(results, width, 1000)
    lines += [text(ended_line(one, number, len(found), 1e4, number % 3, width)) for number, one in enumerate(found, 1)]
    assert max(map(len, lines)) <= width
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert len(verdict_rows(results, width)) == len(found)
    assert [text(line)[0] for line in matrix(results, width)[: 1 + len(found)]] == [" "] * (1 + len(found))


@settings(deadline=None, max_examples=40)
@given(results=runs, problems=st.integers(0, 1))
def test_a_run_of_up_to_25_hypotheses_ends_in_40_lines(results, problems):
    paper = Paper(80)
    write_summary(
        paper, results, ["not decided: 2 of 4 claims and controls (a/b, c/d): " + REASON][:problems], ["r: f"]
    )
    assert len(paper.lines) <= MOST - 1, "the line of report.html is one more"
    assert max(map(len, paper.lines)) <= 80


def climbed(record):
    """The number of rungs below the first required one that did not pass, or below the one that stopped it."""
    if record["compares"]:
        return -1
    verdicts = ["passed" if record["claims"][0]["verdict"] == "supported" else "failed"]
    verdicts += [control["verdict"] for control in record["controls"]]
    needed = [
        (number, verdict)
        for number, (step, verdict) in enumerate(zip(LADDER, verdicts, strict=True))
        if step.required == "always" or (step.required == "where declared" and record["stimuli"]["placebo"])
    ]
    wanted = [number for number, verdict in needed if verdict != "passed"]
    if record["statement"]["outcome"] == "stopped":
        wanted = [number for number, verdict in needed if verdict == "failed"]
    return wanted[0] if wanted else len(LADDER)


@settings(deadline=None, max_examples=40)
@given(results=runs)
def test_who_climbed_further_stands_higher(results):
    found = {f"h{number}": record | {"id": f"h{number}"} for number, record in enumerate(results["hypotheses"])}
    rows = matrix({"hypotheses": list(found.values())}, 80)[1 : 1 + len(found)]
    heights = [climbed(found[text(line).split()[0]]) for line in rows]
    assert heights == sorted(heights, reverse=True)


HELD = ("passed",) * 4


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (hypothesis(), " pose        ++++++++  .  .  .  .  represented"),
        (hypothesis(causal=HELD), " pose        ++++++++  +  +  +  +  represented, used"),
        (
            hypothesis(causal=("failed", *HELD[1:])),
            " pose        ++++++++  !  +  +  +  represented  use not shown: rung 9",
        ),
        (hypothesis(verdicts=("failed", *PASS[1:])), " pose        +!++++++  .  .  .  .  represented"),
        (hypothesis(placebo=(), verdicts=(PASS[0], OPEN, *PASS[2:])), " pose        ++-+++++  *  represented"),
        (hypothesis(verdicts=(PASS[0], "failed", *PASS[2:])), "* ++x+++++  *  stopped      rung 3, placebo"),
        (hypothesis(verdicts=(*PASS[1:], OPEN)), "* +++++++[?]  *  undecided    open: other wordings"),
        (hypothesis(**FIRST, effect=EFFECT), "* [?].......  .  .  .  .  undecided    about 1256 pairs needed"),
        (hypothesis(**FIRST, effect=EXCLUDED), "* 0.......  .  .  .  .  absent       no effect of 0.39 %"),
        (hypothesis(first="inconclusive", n_pairs=7), "* [?]+*  undecided    7 pairs, at least 8 are needed"),
        (hypothesis(compares=("a", "b")), f" pose        {'':20}  compared     order was found"),
    ],
)
def test_a_row_has_the_rungs_the_outcome_and_a_reason(record, expected):
    assert fnmatchcase(row(record).rstrip(), expected)


@settings(deadline=None, max_examples=40)
@given(record=hypotheses, width=st.integers(40, 200))
def test_every_sign_stands_below_the_end_of_its_rungs_number(record, width):
    head, line = map(text, matrix({"hypotheses": [record]}, width)[:2])
    heads = head[head.index("hypothesis") + len("hypothesis") : head.index("outcome")]
    start, end = head.index(heads.strip()), head.index("outcome") - 2
    numbers = [str(step.number) for step in LADDER]
    if width < 64:
        assert head[start:end] == "".join(number[-1] for number in numbers)
        ends = [*range(start, end)]
    else:
        joined = " ".join if width >= 92 else "".join
        assert head[start:end].split("  ") == [joined(numbers[:8]), " ".join(numbers[8:])]
        spaced = list(range(start, start + 16, 2)) if width >= 92 else list(range(start, start + 8))
        ends = spaced + [spaced[-1] + 3, spaced[-1] + 6, spaced[-1] + 9, spaced[-1] + 12]
    expected = [] if record["compares"] else [cell for cell in line[start:end] if cell != " "]
    assert [line[place] for place in ends if not record["compares"]] == expected
    assert len(expected) == (0 if record["compares"] else len(LADDER))


def test_used_is_said_in_as_many_columns_as_there_are():
    used = hypothesis(causal=HELD)
    assert row(used, 80).endswith("represented, used") and row(used, 40).endswith("repr., used")
    assert counts({"hypotheses": [used, hypothesis()]}) == "2 represented (1 used)"
    assert [text(line).split()[0] for line in matrix({"hypotheses": [hypothesis("a"), used]}, 80)[1:3]] == ["pose", "a"]
    assert "represented, used  rungs 1-12 " in text(ended_line(used, 3, 22, 12.3, 0, 80))


def test_the_legend_tells_what_each_word_needs():
    legend = " ".join(text(line).strip() for line in matrix({"hypotheses": [hypothesis()]}, 80)[2:])
    for step in LADDER:
        mark = "^" if step.id in CAUSAL else "*" if step.required in ("always", "where declared") else ""
        assert re.search(rf"(?<!\d){step.number} {step.title.lower()}{re.escape(mark)}(,| \()", legend)
    assert '(* "represents" needs it, 3 where declared; ^ "uses" needs it too)' in legend


def test_what_is_not_decided_yet_is_not_run():
    record = hypothesis(first="not evaluated", verdicts=("not evaluated",) * 7)
    del record["statement"]
    assert "not run" in row(record)
    assert matrix({}, 80) and counts({}) == "" and statements({}, 80, 9) == []


def test_failures_on_record_are_counted_and_others_are_not():
    record = hypothesis(first="refuted")
    record["claims"] = [claim("refuted", recorded="refuted"), claim("refuted"), claim("supported", recorded="refuted")]
    assert counts({"hypotheses": [record, hypothesis()]}) == "1 represented, 1 undecided; 1 failures on record (-ra)"


def test_hypotheses_with_one_statement_stand_together_and_what_does_not_fit_is_said():
    results = {"hypotheses": [hypothesis("b"), hypothesis("a"), hypothesis("c", ("passed", "failed", *["passed"] * 5))]}
    whole = statements(results, 80, 30)
    assert whole[0].startswith("b, a: Represents, in the sense of this suite: exceeds chance")
    assert any(line.startswith("c: Stopped by rung 3, placebo.") for line in whole)
    for room in range(30):
        some = statements(results, 80, room)
        assert len(some) <= room
        assert some == whole or not some or "-v shows what may be said of" in some[-1]


def test_a_line_says_what_stopped_a_hypothesis_and_what_failed_unexpectedly():
    passed = text(ended_line(hypothesis("light_side"), 3, 22, 12.3, 0, 80))
    assert passed == "  3/22 light_side              represented  rungs 1-8                       12 s"
    record = hypothesis("a_name_that_is_much_too_long_for_it", ("not climbed",) * 7, "refuted")
    failed = text(ended_line(record, 4, 22, 3, 2, 80))
    assert failed == "  4/22 a_name_that~ong_for_it  undecided    at rung 1, null     2 FAILED     3 s"


def test_represented_waits_for_no_correction_over_the_run():
    record = hypothesis()
    record["claims"][0]["p_holm"] = None
    record["statement"] = statement(record)
    assert "undecided" in row(record)
    assert "represented" in text(ended_line(record, 1, 2, 1, 0, 80))


@given(words=names, room=st.integers(1, 70))
def test_what_is_cut_fits_and_says_that_it_was(words, room):
    for cut in (middle, end):
        short = cut(words, room)
        assert len(short) <= room
        assert short == words if len(words) <= room else "~" in short
