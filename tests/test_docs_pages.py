"""What the pages of the documentation say of the repository is so: links, options, names, tables."""

import argparse
import json
import re

import pytest
import yaml
from doc_pages import FENCE, PAGES, ROOT, anchors, commands, inline, links, name, snippets

from fixtures.__main__ import main
from fixtures.claims.ladder import LADDER
from fixtures.klein_mini.truth.score import FALSE, LABELS, TRUE
from fixtures.session.option_table import OPTIONS
from fixtures.statistics.auroc import auroc

README = ROOT / "README.md"
WORDS = 1200
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=name)


def table(text, *heads):
    """Rows of the one table with these first heads, as lists of cells."""
    blocks = re.findall(r"(?:^ *\|.*\n)+", text, re.MULTILINE)
    (found,) = [
        block for block in blocks if [cell.strip() for cell in cells(block.split("\n")[0])][: len(heads)] == [*heads]
    ]
    return [[cell.strip() for cell in cells(line)] for line in found.strip().split("\n")[2:]]


def cells(line):
    return re.split(r"(?<!\\)\|", line.strip())[1:-1]


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= WORDS


@BY_NAME
def test_links_lead_to_files_and_headings(page):
    for target in links(page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)}: {target} is not there"
        assert not anchor or anchor in anchors(file.read_text()), f"{name(page)}: {target}: no such heading"


def test_every_page_can_be_reached_from_the_readme():
    reached, ahead = set(), [README]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        linked = {(page.parent / target.partition("#")[0]).resolve() for target in links(page.read_text())}
        ahead += [file for file in linked - reached if file.suffix == ".md" and file.exists()]
    assert set(PAGES) <= reached


class Parsers(Exception):
    """Raised with the parser in the place of what it would do."""


def parse_args(parser, arguments):
    raise Parsers(parser)


@pytest.fixture(scope="module")
def known_options(pytestconfig):
    """Long options of pytest with its plugins, and of every command of the repository."""
    found = {option for group in pytestconfig._parser._groups for one in group.options for option in one.names()}
    found |= {option for one in pytestconfig._parser._anonymous.options for option in one.names()}
    for file in [*(ROOT / "fixtures/klein_mini").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        found |= set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', file.read_text()))
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Parsers) as raised:
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        main(["results-form"])
    for command in raised.value.args[0]._subparsers._group_actions[0].choices.values():
        found |= set(command._option_string_actions)
    return found


@BY_NAME
def test_options_that_are_named_exist(page, known_options):
    text = page.read_text()
    lines = commands(text)  # test_docs.py has each of these taken by its program
    named = {
        option for code in inline(text) if code not in lines for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
    }
    assert named <= known_options, f"{name(page)}: {sorted(named - known_options)}"


@BY_NAME
def test_variables_that_are_named_exist(page):
    workflow = (ROOT / ".github/workflows/probes-gpu.yml").read_text()
    known = {option.variable for option in OPTIONS} | set(re.findall(r"vars\.(PROBES_\w+)", workflow))
    assert set(re.findall(r"\bPROBES_[A-Z_]+", page.read_text())) <= known


def test_the_inputs_of_the_workflow_are_described():
    workflow = yaml.load((ROOT / ".github/workflows/probes-gpu.yml").read_text(), yaml.BaseLoader)
    rows = table((ROOT / "docs/gpu_ci.md").read_text(), "Input")
    assert [code for row in rows for code in inline(row[0])] == [*workflow["on"]["workflow_dispatch"]["inputs"]]


@pytest.mark.parametrize("page", ["README.md", "docs/reading_a_report.md"])
def test_the_ladder_is_the_one_that_is_climbed(page):
    rows = table((ROOT / page).read_text(), "Rung", "Question")
    stars = {"never": "", "always": " *", "where declared": " *", "uses": " ^"}
    assert [row[0] for row in rows] == [f"{step.number} {step.title}{stars[step.required]}" for step in LADDER]
    assert [row[2] for row in rows if len(row) > 2] in ([], [step.word for step in LADDER])


def test_the_hypotheses_are_those_of_the_probe_files():
    rows = table((ROOT / "docs/hypotheses.md").read_text(), "Hypothesis")
    declared = [re.search(r'\bid="(\w+)"', file.read_text()) for file in (ROOT / "probes").glob("test_*.py")]
    assert sorted(code for row in rows for code in inline(row[0])) == sorted(found[1] for found in declared)


def test_the_readmes_score_is_that_of_the_ground_truth():
    rows = table(README.read_text(), "", "yes of 24 true", "of 19 false", "of 7 that are wording only")
    sets = json.loads((ROOT / "stimuli/ground_truth/score.json").read_text())["sets"]
    by_label = [[row for row in sets if row["label"] == label] for label in LABELS]
    assert [len(of_one) for of_one in by_label] == [24, 19, 7] and len(sets) == 50
    for cells_, statistic in zip(rows, ("count", "amplification"), strict=False):
        yes = [sum(row["figures"][statistic]["says"] for row in of_one) for of_one in by_label]
        yes.append(sum(row["twin"][statistic]["says"] for row in sets))
        true, false = (
            [row["figures"][statistic]["value"] for row in sets if row["label"] == label] for label in (TRUE, FALSE)
        )
        assert cells_[1:] == [*map(str, yes), f"{auroc(true, false):.2f}"]
    outcomes = [sum(row["outcome"] == "represents" for row in of_one) for of_one in by_label]
    assert rows[2][1:4] == [*map(str, outcomes)]
    assert rows[3][1:4] == [str(sum(row["uses"] for row in of_one)) for of_one in by_label]


SAMPLE = """# A page: of *some* `code`

## Twice
## Twice

Run `make
probes ARGS=x`, not `probes`, see [a `b`](c.md#d) and ![p](q.png); `[no](link)`.

- `pytest probes/`

  ```python
  x = 1
  if x:
      y = "[no](x)"
  ```

```
one --a  # a comment
python - <<END
print()  # kept
END
two "a b"    # c
```

```text
three
```
"""


def test_the_parts_of_a_page_are_found():
    assert commands(SAMPLE) == [
        *("one --a", "python - <<END\nprint()  # kept\nEND", 'two "a b"'),
        *("make probes ARGS=x", "pytest probes/"),
    ]
    assert snippets(SAMPLE) == ['x = 1\nif x:\n    y = "[no](x)"\n']
    assert links(SAMPLE) == ["c.md#d", "q.png"]
    assert anchors(SAMPLE) == {"a-page-of-some-code", "twice", "twice-1"}
    languages = {language for page in PAGES for _, language, _ in FENCE.findall(page.read_text())}
    assert not languages & {"bash", "console", "sh", "shell"}, "commands stand in blocks without a language"
