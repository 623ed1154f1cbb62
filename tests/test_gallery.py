"""The gallery: every link leads to a file of it, no string of a run becomes markup, no path of the machine travels."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hostile import PAYLOADS, attacked
from hypothesis import given
from hypothesis import strategies as st
from old_results import FILES, old
from report_factory import make_results

from fixtures.__main__ import main
from fixtures.report.gallery.runs import GalleryRun, read_runs
from fixtures.report.gallery.site import machine_paths, without_paths, write_site
from fixtures.report.gallery.views import index_view
from fixtures.report.parts.links import file_name
from fixtures.results.schema import SCHEMA
from fixtures.results.versions import brought_up

STORE = "/home/someone/private store"


class Page(HTMLParser):
    """The tags of a page, its links and ids, and its text."""

    def __init__(self, file: Path):
        super().__init__()
        self.tags, self.links, self.ids, self.names, self.words = set(), [], [], set(), []
        self.feed(file.read_text())
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.words.append(data)


def pages(site: Path) -> dict[Path, Page]:
    """The pages that the gallery itself made."""
    made = [site / "index.html", *site.glob("runs/*/index.html"), *site.glob("hypotheses/*.html")]
    return {file: Page(file) for file in made}


def check_links(site: Path) -> None:
    """Every link is relative and leads to a file of the site, and to an id in it where it names one of our own."""
    found = pages(site)
    for file, page in found.items():
        assert page.links
        for link in page.links:
            path, _, anchor = link.partition("#")
            assert not re.match(r"[/\\]|[a-z]+:", path, re.IGNORECASE), link
            target = (file.parent / unquote(path)).resolve()
            assert target.is_file() and target.is_relative_to(site.resolve()), link
            assert not anchor or target not in found or anchor in found[target].ids, link


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run of today with a report, and real ones of older versions, of three models."""
    root = tmp_path_factory.mktemp("reports")
    for version in (1, 2, 4, 6):
        (root / f"v{version}").mkdir()
        (root / f"v{version}" / "results.json").write_bytes(FILES[version].read_bytes())
    now = root / "now"
    now.mkdir()
    results = make_results(now, side=16, ordering=True)
    results["run"]["options"]["store"] = {"value": STORE, "source": "command line"}
    (now / "results.json").write_text(json.dumps(results))
    (now / "report.html").write_text(f"<p>--store '{STORE}' /home/x/clone/probes/test_a.py /home/x/clone/stimuli</p>")
    (now / "summary.md").write_text(f"store {STORE}/activations")
    (now / "cards").mkdir()
    (now / "cards" / "x.md").write_text("a card")
    (root / "latest").symlink_to("now")
    (root / "README.md").write_text("no run")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def site(folders, tmp_path_factory):
    runs, _ = read_runs(sorted(folders.iterdir()))
    return write_site(tmp_path_factory.mktemp("site"), runs).parent


def test_runs_are_read_once_the_newest_first_and_others_named(folders):
    runs, refused = read_runs(sorted(folders.iterdir()))
    assert [run.version for run in runs] == [6, 4, 2, SCHEMA] and [run.older for run in runs] == [6, 4, 2, None]
    assert [run.started for run in runs] == sorted((run.started for run in runs), reverse=True)
    assert len(refused) == 2
    assert "empty/results.json: cannot be read" in refused[0] and "v1/results.json: version 1" in refused[1]


def test_unfinished_runs_and_runs_of_one_name_are_left_out(folders, tmp_path):
    for name, change in (("a", {}), ("b", {}), ("c", {"finished": None, "id": "c"})):
        data = old(6)
        data["run"] |= change
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(data))
    runs, refused = read_runs(sorted(tmp_path.iterdir()))
    assert len(runs) == 1 and "another run has the same id" in refused[0] and "was not finished" in refused[1]


def test_every_link_leads_to_a_file_of_the_site(site):
    check_links(site)
    assert len(pages(site)) == 1 + 4 + len(list(site.glob("hypotheses/*.html")))


def test_the_index_says_what_results_json_states(folders, site):
    runs, _ = read_runs(sorted(folders.iterdir()))
    view, text = index_view(runs), pages(site)[site / "index.html"].text
    assert [column["name"] for column in view["columns"]] == ["klein-tiny", "klein-mini", "klein-mini+arrow"]
    seen = 0
    for row in view["rows"] + view["compared"]:
        for column, cell in zip(view["columns"], row, strict=True):
            newest = next((run for run in column["runs"] if any(one and one.id in run.hypotheses for one in row)), None)
            assert (cell is None) == (newest is None)
            if cell and cell.outcome:
                stated = newest.hypotheses[cell.id]["statement"]
                assert cell.outcome.used == stated.get("uses", False)
                assert (cell.outcome.name == "represented") == stated["represents"]
                assert cell.outcome.verdict in text and cell.amplification in text
                seen += 1
    assert seen >= 4


def test_a_row_stands_higher_the_further_a_model_climbed(folders):
    rows = index_view(read_runs(sorted(folders.iterdir()))[0])["rows"]
    heights = [max(cell.reached or 0 for cell in row if cell) for row in rows]
    assert heights == sorted(heights, reverse=True) and heights[0] > heights[-1]


def test_models_of_one_name_and_other_weights_have_columns_of_their_own():
    one, two = brought_up(old(6))[0], brought_up(old(6))[0]
    two["model"]["fingerprint"] = "f" * 64
    two["run"]["id"] = "two"
    view = index_view([GalleryRun(Path("a"), one, SCHEMA), GalleryRun(Path("b"), two, SCHEMA)])
    marks = [column["mark"] for column in view["columns"]]
    assert marks == [one["model"]["fingerprint"][:6], "ffffff"] and len(view["rows"]) == 1


def test_the_page_of_a_hypothesis_lists_every_run_that_has_it(folders, site):
    for run in read_runs(sorted(folders.iterdir()))[0]:
        for id_, hypothesis in run.hypotheses.items():
            page = pages(site)[site / "hypotheses" / f"{file_name(id_)}.html"]
            assert run.name in page.ids and run.id in page.text
            assert " ".join(hypothesis["statement"]["sentence"].split()) in page.text
            assert not run.older or f"version {run.older} of results.json" in page.text


def test_reports_are_copied_without_paths_of_the_machine(folders, site):
    (copied,) = [folder for folder in (site / "runs").iterdir() if (folder / "report.html").exists()]
    assert (copied / "report.html").read_text() == "<p>--store '…/private store' …/probes/test_a.py …/stimuli</p>"
    assert (copied / "summary.md").read_text() == "store …/private store/activations"
    assert (copied / "cards/x.md").exists() and json.loads((copied / "results.json").read_text())
    assert not any(
        "/home/" in file.read_text() for file in site.rglob("*.*") if file.suffix in (".html", ".json", ".md")
    )
    assert (folders / "now" / "summary.md").read_text() == f"store {STORE}/activations", "the run stays as it is"


def test_paths_are_options_that_are_absolute():
    options = {"store": "/a/b", "reports": "/a/b/c", "model": "klein", "x": None, "y": "/", "z": "C:\\d\\e", "n": 3}
    results = {"run": {"options": {name: {"value": value, "source": "default"} for name, value in options.items()}}}
    assert machine_paths(results) == ["/a/b/c", "C:\\d\\e", "/a/b"] and machine_paths({}) == []


@given(st.text(alphabet="ab/.<&' é", max_size=40))
def test_other_text_stays_as_it_is(text):
    assert without_paths(text.encode(), ["/nowhere/at all"]).decode() == text
    assert without_paths(b"\xff/nowhere/at all", ["/nowhere/at all"]) == b"\xff/nowhere/at all"


@given(st.text(max_size=120), st.text(max_size=120))
def test_names_of_files_are_safe_and_never_shared(one, two):
    assert re.fullmatch(r"[A-Za-z0-9_+-]+", file_name(one)) and len(file_name(one)) <= 90
    assert (file_name(one) == file_name(two)) == (one == two)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_string_of_a_run_becomes_markup(tmp_path, payload):
    plain = [GalleryRun(tmp_path, brought_up(old(version))[0], version) for version in (2, 6)]
    hostile = [GalleryRun(tmp_path, attacked(run.results, payload), run.version) for run in plain]
    for number, run in enumerate(hostile):
        run.results["run"]["id"] += str(number)
    tags = {tag for page in pages(write_site(tmp_path / "plain", plain).parent).values() for tag in page.tags}
    site = write_site(tmp_path / "hostile", hostile).parent
    check_links(site)
    for page in pages(site).values():
        assert page.tags <= tags | {"mark"} and not any(name.startswith("on") for name in page.names)


def test_the_command_names_what_it_leaves_out(folders, tmp_path, capsys):
    assert main(["gallery", *map(str, sorted(folders.iterdir())), "--to", str(tmp_path / "site")]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'site' / 'index.html'}: 4 runs\n" and said.err.count("left out: ") == 2
    assert main(["gallery", str(folders / "empty"), "--to", str(tmp_path / "none")]) == 4
    assert "no run is left" in capsys.readouterr().err and not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    assert main(["gallery", str(folders / "now"), "--to", str(tmp_path / "file")]) == 4
    assert "cannot be written" in capsys.readouterr().err
