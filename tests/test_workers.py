"""Shares and GPUs of several processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.common import workers
from fixtures.common.errors import ProbeError
from fixtures.common.workers import Shard, parse_shard, pin_to_gpu, shard_of_launcher, visible_gpus


@given(count=st.integers(1, 99), data=st.data())
def test_shares_are_counted_from_one(count, data):
    index = data.draw(st.integers(1, count))
    assert parse_shard(f"{index}/{count}", "--shard") == Shard(index - 1, count)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ProbeError, match="--shard: .* is not a share; expected I/N"):
        parse_shard(text, "--shard")


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        ({}, Shard()),
        ({"RANK": "2", "WORLD_SIZE": "4"}, Shard(2, 4)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Shard()),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "4"}, Shard(1, 2)),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "4"}, Shard()),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_MAX": "7"}, Shard(3, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "7",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            Shard(2, 4),
        ),
    ],
)
def test_a_launcher_says_the_share(variables, shard):
    assert shard_of_launcher(variables) == shard


def test_a_slurm_array_with_gaps_is_refused():
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "7"}
    assert shard_of_launcher(array | {"SLURM_ARRAY_TASK_COUNT": "7"}) == Shard(2, 7)
    with pytest.raises(ProbeError, match="3 tasks from 1 to 7, .* expected --array=1-N"):
        shard_of_launcher(array | {"SLURM_ARRAY_TASK_COUNT": "3"})


@pytest.mark.parametrize(
    ("named", "devices"),
    [
        ("0,1", ["0", "1"]),
        ("3", ["3"]),
        ("", []),
        ("-1", []),
        ("0,-1,2", ["0"]),
        ("GPU-ab, GPU-cd", ["GPU-ab", "GPU-cd"]),
    ],
)
def test_visible_devices_are_those_of_the_environment(named, devices):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": named}) == devices


def test_without_the_variable_the_driver_is_asked(monkeypatch):
    class Listed:
        stdout = "GPU 0: NVIDIA X (UUID: GPU-1)\nGPU 1: NVIDIA X (UUID: GPU-2)\n"

    monkeypatch.setattr(workers.subprocess, "run", lambda *arguments, **options: Listed)
    assert visible_gpus({}) == ["0", "1"]


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def missing(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr(workers.subprocess, "run", missing)
    assert visible_gpus({}) == []


@pytest.mark.parametrize(
    ("variables", "pinned"),
    [
        ({"PYTEST_XDIST_WORKER": "gw1"}, "5"),
        ({"PYTEST_XDIST_WORKER": "gw2"}, "4"),
        ({"LOCAL_RANK": "1"}, "5"),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2"}, "4"),
        ({}, "4,5"),
    ],
)
def test_each_worker_gets_one_gpu(variables, pinned):
    environment = {"CUDA_VISIBLE_DEVICES": "4,5", **variables}
    pin_to_gpu(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == pinned


def test_without_a_gpu_nothing_is_pinned():
    environment = {"CUDA_VISIBLE_DEVICES": "", "LOCAL_RANK": "1"}
    pin_to_gpu(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
