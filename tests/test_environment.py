"""Every environment variable that the suite reads: a bad value is an error that names it, or does no harm."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fixtures.common.errors import ProbeError
from fixtures.common.workers import ARRAY, LOCAL_RANKS, RANKS, Shard, pin_to_gpu, shard_of_launcher, visible_gpus
from fixtures.session.option_table import OPTIONS
from fixtures.session.options import resolve_settings

ROOT = Path(__file__).parents[1]
LAUNCHERS = sorted({name for rank, size, _ in RANKS for name in (rank, size)})
ARRAYS = [ARRAY + name for name in ("ID", "MIN", "MAX", "STEP", "COUNT")]
OTHERS = ("CI", "CUDA_VISIBLE_DEVICES", "OMP_WAIT_POLICY", "PYTEST_XDIST_WORKER", "TOKENIZERS_PARALLELISM")
GIVEN = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR")  # set for libraries where the user has not, and not read here
BAD = (
    "",
    " ",
    "abc",
    "-1",
    "1.5",
    "1e3",
    "0x10",
    "9" * 5000,
    "²",
    "٣",
    "1,2",
    "1/0",
    "~nobody-of-that-name/x",
    "\n",
    "é",
)
values = st.one_of(
    st.sampled_from(BAD), st.text(st.characters(exclude_characters="\0"), max_size=8), st.integers(-2, 9).map(str)
)


def test_these_are_all_variables_that_the_engine_reads():
    names = set()
    for file in (ROOT / "fixtures").rglob("*.py"):
        source = file.read_text()
        if "environ" in source:
            names |= set(re.findall(r'environ\w*(?:\.get|\.setdefault)?[(\[]\s*"([A-Z_]+)"', source))
            names |= set(re.findall(r'"([A-Z_]+)" (?:not )?in os\.environ', source))
    assert names == {*OTHERS, *GIVEN}, "of the others the names stand in tables"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
@pytest.mark.parametrize("text", BAD)
def test_a_bad_option_of_the_environment_is_named(option, text):
    try:
        settings = resolve_settings({}, {}, ROOT, {option.variable: text})
    except ProbeError as error:
        assert option.variable in str(error) or f"--{option.name}" in str(error)
    else:
        assert settings.sources[option.name] == ("environment" if text else "default")


@given(variables=st.dictionaries(st.sampled_from(LAUNCHERS + ARRAYS), values))
@example({"RANK": "1"})
@example({"WORLD_SIZE": "4"})
@example({"RANK": "0", "WORLD_SIZE": "0"})
@example({"RANK": "4", "WORLD_SIZE": "4"})
@example({"RANK": "x", "WORLD_SIZE": "1"})
@example({"SLURM_STEP_NUM_TASKS": "4"})
@example({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "-1"})
@example({"SLURM_ARRAY_TASK_ID": "7"})
@example({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "7"})
@example({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "1"})
def test_a_launcher_gives_a_share_of_what_there_is_or_an_error_that_names_it(variables):
    try:
        shard = shard_of_launcher(variables)
    except ProbeError as error:
        assert any(str(error).startswith(name) for name in LAUNCHERS + ARRAYS)
    else:
        assert 0 <= shard.index < shard.count


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"RANK": "1"}, "WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "4"}, "RANK is not set"),
        ({"RANK": "", "WORLD_SIZE": "4"}, "RANK is not set"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK is '4'; expected a whole number from 0 on, below WORLD_SIZE"),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "RANK is '-1'"),
        ({"RANK": "0", "WORLD_SIZE": "four"}, "WORLD_SIZE is 'four'"),
        ({"SLURM_PROCID": "x", "SLURM_STEP_NUM_TASKS": "4"}, "SLURM_PROCID is 'x'"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_PROCID is not set"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "-4"}, "SLURM_STEP_NUM_TASKS is '-4'"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN is not set"),
        ({"SLURM_ARRAY_TASK_ID": "3.5"}, "SLURM_ARRAY_TASK_ID is '3.5'"),
        (
            {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "2"},
            "SLURM_ARRAY_TASK_ID:",
        ),
    ],
)
def test_what_a_launcher_cannot_mean_names_the_variable(variables, named):
    with pytest.raises(ProbeError, match=f"^{re.escape(named)}"):
        shard_of_launcher(variables)


@pytest.mark.parametrize("set_by_sbatch", [{}, {"SLURM_PROCID": "0"}, {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}])
@pytest.mark.parametrize("tasks", ["4", "abc", "-1"])
def test_a_batch_script_without_srun_is_one_process_with_all_of_the_work(set_by_sbatch, tasks):
    variables = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": tasks, "CUDA_VISIBLE_DEVICES": "0,1", **set_by_sbatch}
    assert shard_of_launcher(variables) == Shard()
    pin_to_gpu(variables)
    assert variables["CUDA_VISIBLE_DEVICES"] == "0,1", "its workers take a GPU each"


@given(variables=st.dictionaries(st.sampled_from([name for pair in LOCAL_RANKS for name in pair] + [*OTHERS]), values))
def test_a_process_is_pinned_to_one_gpu_or_an_error_names_the_variable(variables):
    variables |= {"CUDA_VISIBLE_DEVICES": variables.get("CUDA_VISIBLE_DEVICES", "0,1")}
    before = visible_gpus(variables)
    try:
        pin_to_gpu(variables)
    except ProbeError as error:
        assert str(error).split()[0] in ("LOCAL_RANK", "SLURM_LOCALID")
    else:
        assert set(visible_gpus(variables)) <= set(before)


@pytest.mark.parametrize(
    ("shard", "words"),
    [
        (Shard(0, 4), "share 1 of 4 is done; the other three must be too"),
        (Shard(1, 2), "share 2 of 2 is done; the other one must be too"),
        (Shard(0, 13), "share 1 of 13 is done; the other twelve must be too"),
        (Shard(6, 100), "share 7 of 100 is done; the other 99 must be too"),
    ],
)
def test_a_share_says_how_many_others_there_are(shard, words):
    assert shard.others == words
