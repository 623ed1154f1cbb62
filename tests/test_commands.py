"""Commands without a model, asked for what there is not: a message and an exit code, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.__main__ import main
from fixtures.models.flux2_klein import fullsize

ROOT = Path(__file__).parents[1]
WORDS = {
    "gone": "no such file|No such file or directory",
    "folder": "Is a directory",
    "link": "a link to nowhere, where there is nothing",
    "loop": "Too many levels of symbolic links",
    "cut": "not valid (JSON|TOML) in UTF-8",
    "empty": "not valid JSON in UTF-8|'presentation' is missing",
    "other": "JSON of another kind|not valid TOML",
    "wide": "it is in UTF-16. Save it as UTF-8",
    "bytes": "not valid (JSON|TOML) in UTF-8",
    "closed": "Permission denied",
}


@pytest.fixture
def unusable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("link").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    for name, content in (
        ("cut", b'{"schema": 1, "hypoth'),
        ("empty", b""),
        ("other", b'{"a": 1}'),
        ("wide", "{}".encode("utf-16")),
        ("bytes", bytes(range(256))),
        ("closed", b"{}"),
    ):
        Path(name).write_bytes(content)
    Path("closed").chmod(0)


@pytest.mark.parametrize(("name", "words"), WORDS.items(), ids=WORDS)
@pytest.mark.parametrize(("command", "code"), [("check {0}", 1), ("compare {0} {0}", 4)])
def test_a_file_that_cannot_be_used_is_named_with_the_cause(unusable, capsys, command, code, name, words):
    if name == "closed" and os.geteuid() == 0:
        pytest.skip("root may read every file")
    assert main(command.format(name).split()) == code
    found = capsys.readouterr()
    assert found.out == "" and len(found.err.splitlines()) == 1
    assert any(word in found.err for word in words.replace("(JSON|TOML)", "JSON").split("|")) or (
        "(JSON|TOML)" in words and "not valid TOML in UTF-8" in found.err
    )
    assert name in found.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("chek",),
        ("compare",),
        ("compare", "a"),
        ("compare", "a", "b", "c"),
        ("check", "--json"),
        ("results-form", "x"),
    ],
)
def test_other_arguments_are_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("file",), "file: cannot be written (File exists)"),
        (("file/below",), "file/below: cannot be written (Not a directory)"),
        (("/proc/none",), "/proc/none: cannot be written ("),
        (("x", "--device", "nix"), "--device nix: not available here"),
        (("x", "--device", "cpu:1"), "--device cpu:1: expected cpu, without a number"),
        (("x", "--seed", "one"), "invalid int value: 'one'"),
        ((), "the following arguments are required: DIR"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_a_usage_error(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as ended:
        fullsize.main(list(arguments))
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fills_while_a_checkpoint_is_written_is_named(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fullsize, "write", full)
    with pytest.raises(SystemExit) as ended:
        fullsize.main([str(tmp_path), "--device", "cpu"])
    assert (
        ended.value.code == 2 and f"{tmp_path}: cannot be written (No space left on device)" in capsys.readouterr().err
    )


@pytest.mark.parametrize("arguments", ["check --markdown", "check stimuli/physical_scale.toml", "results-form"])
def test_a_terminal_that_knows_ascii_alone_is_written_to(arguments):
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "fixtures", *arguments.split()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode in (0, 1) and done.stderr == b"" and done.stdout.isascii() and len(done.stdout) > 500
