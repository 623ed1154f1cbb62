"""What a run says on the terminal: with and without ``-v``, ``-q``, ``-ra``, colour and workers, and what is rewritten
in place."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from threading import Thread
from types import SimpleNamespace

import pytest
from toy_project import PROBE, STIMULI, known, pairs, run, write

from fixtures.session.terminal import Terminal

pytest_plugins = "pytester"

NOTE = "capturing toy: 20 in *"
LINE = r" {number}/2 {name} +(represented|stopped|absent|undecided) .* \d+ s"


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for variable in ("CI", "FORCE_COLOR", "PY_COLORS", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def two(project):
    """Two hypotheses: one claim of the first is refuted, all of the second are supported."""
    write(project, "probes/test_zother.py", PROBE.replace('"toy"', '"zother"').replace("margin=47", "margin=1.01"))
    text = (STIMULI + pairs(10, b="other words about a long journey {number}")).replace('"toy"', '"zother"')
    write(project, "stimuli/zother.toml", text)
    return project


def ended(outcome):
    """The lines of hypotheses that ended, in their order."""
    return [line for line in outcome.outlines if re.match(r" +\d+/\d+ ", line)]


def section(outcome):
    """The lines from the matrix on."""
    start = next(number for number, line in enumerate(outcome.outlines) if re.match("=+ probes =+$", line))
    return outcome.outlines[start:]


def test_a_hypothesis_has_one_line_and_its_tests_have_none(two):
    outcome = run(two)
    lines = ended(outcome)
    assert len(lines) == 2
    for number, (name, line) in enumerate(zip(("toy", "zother"), lines, strict=True), 1):
        assert re.fullmatch(LINE.format(number=number, name=name), line), line
    before = outcome.outlines[: outcome.outlines.index(lines[1])]
    assert not [line for line in before if re.search(r"test_\w+\.py|\[ *\d+%\]|capturing", line)]
    assert "2 FAILED" not in lines[0] and "1 FAILED" in lines[0], "a refutation that is not on record"
    rows = [line for line in section(outcome) if re.match(r" (toy|zother) +[+?][o?]{7}(  o){4} ", line)]
    assert len(rows) == 2
    outcome.stdout.fnmatch_lines(["REFUTED *toy/count_t5*", "*FAILED probes/test_toy.py::test_refuted*"])


def test_a_failure_on_record_is_a_count_until_it_is_asked_for(two):
    run(two)
    known(two, "refuted")
    for name in "ab":
        write(two, f"probes/test_{name}.py", PROBE.replace('"toy"', f'"{name}"'))
        write(two, f"stimuli/{name}.toml", (STIMULI + pairs(10)).replace('"toy"', f'"{name}"'))
    outcome = run(two)
    assert any(line.endswith("; 1 failures on record (-ra)") for line in section(outcome))
    outcome.stdout.no_fnmatch_line("*XFAIL*")
    outcome.stdout.no_fnmatch_line("SUPPORTED *")
    outcome.stdout.fnmatch_lines(["*Generated html report*"])
    run(two, "-ra").stdout.fnmatch_lines(["XFAIL probes/test_toy.py::test_refuted - on record*"])
    run(two, "-v").stdout.fnmatch_lines(["probes/test_toy.py::test_refuted XFAIL*", "SUPPORTED *toy/count_t3*"])


def test_verbose_shows_what_pytest_shows_and_every_claim(two, tmp_path):
    outcome = run(two, "-v", "--store", str(tmp_path / "store"))
    assert len(ended(outcome)) == 2
    outcome.stdout.fnmatch_lines(
        ["probes/test_toy.py::test_supported *", NOTE, "*PASSED*", "probes/test_zother.py::test_refuted *"]
    )
    outcome.stdout.fnmatch_lines(["*= probes =*", "SUPPORTED *toy/count_t3*", "STATEMENT *zother: *"])


def test_quiet_says_the_verdicts_and_no_more(two):
    write(two, "probes/test_toy.py", PROBE.replace("margin=47", "margin=1.01"))
    outcome = run(two, "-q")
    shown = [line for line in outcome.outlines if line]
    assert [line.split()[0] for line in shown[:2]] == ["toy", "zother"]
    assert len(shown) == 3 and re.match(r"\d+ passed", shown[2]), shown


def test_quiet_says_why_a_run_is_no_success(two):
    write(two, "stimuli/zother.toml", (STIMULI + pairs(7)).replace('"toy"', '"zother"'))
    outcome = run(two, "-q")
    outcome.stdout.fnmatch_lines([" toy *", " zother *", "not decided: 2 of 4 claims and controls *"])


def test_workers_report_each_hypothesis_once(two):
    outcome = two.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "probes")
    lines = ended(outcome)
    assert sorted(line.split()[1] for line in lines) == ["toy", "zother"]
    assert [line.split()[0] for line in lines] == ["1/2", "2/2"]
    assert not [line for line in outcome.outlines if re.fullmatch(r"[.sxFE]+ *(\[ *\d+%\])?", line.strip())]


def test_colour_is_added_and_means_the_same(two):
    plain, coloured = run(two), run(two, "--color=yes")
    assert "\x1b[32m+\x1b[0m" in coloured.stdout.str() and "\x1b" not in plain.stdout.str()
    bare = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in coloured.outlines]
    rows = [line for line in section(plain) if re.match(r" (toy|zother) ", line)]
    assert len(rows) == 2 and set(rows) <= set(bare)


def test_tests_that_decide_nothing_keep_their_letters(two):
    write(two, "other/test_other.py", "def test_it(): pass\n")
    outcome = run(two, "other")
    outcome.stdout.fnmatch_lines(["other/test_other.py .*"])
    assert len(ended(outcome)) == 2


def test_a_test_that_is_tried_again_ends_its_hypothesis_once(project):
    outcome = run(project, "--reruns", "2")
    (line,) = ended(outcome)
    assert "1 FAILED" in line


def test_capture_only_says_what_it_captures(two, tmp_path):
    outcome = run(two, "--capture-only", "--store", str(tmp_path / "store"))
    outcome.stdout.fnmatch_lines([NOTE, "capturing zother: 20 in *"])
    assert not ended(outcome) and outcome.ret == 0


def test_on_a_terminal_one_line_is_rewritten_and_leaves_nothing(two, tmp_path):
    screen, raw = on_a_terminal(two, "probes", "--store", str(tmp_path / "store"))
    assert re.search(r"\r0/2 hypotheses, 0:\d\d: capturing toy 10/20", raw)
    assert re.search(r"\r1/2 hypotheses, 0:\d\d, about 0:\d\d left: ", raw)
    assert not [line for line in screen if "hypotheses, " in line], "nothing is left of it"
    assert len([line for line in screen if re.match(r" \d/2 ", line) and len(line) <= 80]) == 2


def test_a_log_of_a_ci_has_no_line_that_is_rewritten(two, monkeypatch):
    monkeypatch.setenv("CI", "true")
    _, raw = on_a_terminal(two, "probes")
    assert "hypotheses, " not in raw


def on_a_terminal(project, *arguments):
    """(Lines on the screen in the end, all that was written) of a run on a pseudo-terminal of 80 columns."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    with subprocess.Popen(command, stdout=child, stderr=child, stdin=child, cwd=project.path):
        os.close(child)
        written = b""
        try:
            while part := os.read(parent, 65536):
                written += part
        except OSError:  # how the end of a pseudo-terminal reads
            pass
    os.close(parent)
    raw = written.decode()
    bare = re.sub(r"\x1b\[[\d;]*m", "", raw).replace("\r\n", "\n")
    return [shown(line) for line in bare.split("\n")], raw


def shown(line):
    """What is left of a line in which the cursor went back to its start."""
    cells = []
    for part in line.split("\r"):
        cells[: len(part)] = part
    return "".join(cells).rstrip()


class Tty(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def live(monkeypatch):
    """A terminal of 40 columns, and what is written to it."""
    stream = Tty()
    reporter = SimpleNamespace(currentfspath=None)
    writer = SimpleNamespace(fullwidth=40, markup=lambda text, **markup: text)
    config = SimpleNamespace(
        stash={},
        option=SimpleNamespace(verbose=0),
        pluginmanager=SimpleNamespace(get_plugin=lambda name: reporter),
        get_terminal_writer=lambda: writer,
    )
    monkeypatch.setattr(sys, "stdout", stream)
    return Terminal(config), stream


def screen(stream):
    return [shown(line) for line in stream.getvalue().split("\n")]


def test_the_live_line_fits_and_keeps_its_figures(live):
    terminal, stream = live
    terminal.overall = lambda: "3/22 hypotheses"
    terminal.progress("capturing a_hypothesis_of_a_long_name, twin 3")(12, 50)
    (line,) = screen(stream)
    assert len(line) <= 39 and line.startswith("3/22 hypotheses: ") and line.endswith(" 12/50") and "~" in line


def test_a_note_stands_above_the_live_line_and_shorter_lines_leave_no_rest(live):
    terminal, stream = live
    show = terminal.progress("capturing something")
    show(1, 10)
    terminal.note("a note")
    show(10, 10)
    terminal.doing = "x"
    terminal.draw()
    assert screen(stream) == ["a note", "x"]
    terminal.close()
    show(1, 10)
    assert screen(stream) == ["a note", ""]


def test_a_phase_that_an_error_ended_is_forgotten(live):
    terminal, stream = live
    terminal.progress("capturing something")(1, 10)
    terminal.doing = "x"
    terminal.forget()
    terminal.draw()
    assert screen(stream) == ["x"]


def test_phases_of_several_threads_do_not_mix(live):
    terminal, stream = live

    def work(number):
        show = terminal.progress(f"phase {number}")
        for done in range(1, 51):
            show(done, 50)
            terminal.note(f"note {number}-{done}")

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    terminal.close()
    *notes, last = screen(stream)
    assert last == ""
    assert sorted(notes) == sorted(f"note {number}-{done}" for number in range(4) for done in range(1, 51))
