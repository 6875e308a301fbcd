"""What a real cluster says that it has left."""

from __future__ import annotations

import json
import time

import pytest

from tomas_router.cli.main import main
from tomas_router.runtime.ray_source import RayNodeError, RaySource

HELD = {"num_cpus": 0.5, "num_gpus": 0.25, "memory": 2**28}


def rows(source):
    return [timeline.capacity[0].tolist() for timeline in source.timelines()]


def settled(read, expected):
    """Ray's counts arrive a moment later."""
    until = time.monotonic() + 10
    while read() != expected and time.monotonic() < until:
        time.sleep(0.05)
    return read()


def test_source_when_a_node_is_idle_offers_all_of_it_with_one_curve_for_each_gpu(cluster):
    source = RaySource(cluster["head"], gpu_memory_gib=16)
    expected_gpu = [100.0, 16.0]
    found = settled(lambda: [row[:1] + row[2:] for row in rows(source)], [[2.0, *expected_gpu]] * 2)
    assert found == [[2.0, *expected_gpu]] * 2
    (timeline, _) = source.timelines()
    assert abs(timeline.epoch_ms - time.time() * 1000) < 60_000
    assert timeline.tail == "hold"


def test_source_when_a_node_has_no_gpu_offers_one_curve_without(cluster):
    ((cores, memory, *gpu),) = rows(RaySource(cluster["small"]))
    assert cores == 1.0
    assert memory > 0
    assert gpu == [0, 0]


def test_source_when_an_actor_holds_resources_leaves_them_out_and_gives_them_back(cluster):
    import ray

    @ray.remote(**HELD)
    class Holder:
        def node(self):
            return ray.get_runtime_context().get_node_id()

    source = RaySource(cluster["head"], gpu_memory_gib=16)
    memory = rows(source)[0][1]
    holder = Holder.remote()
    assert ray.get(holder.node.remote()) == cluster["head"]  # the only one with GPUs
    busy = [[1.5, pytest.approx(memory - 0.25), 100, 16], [1.5, pytest.approx(memory - 0.25), 75, 12]]
    assert settled(lambda: rows(source), busy) == busy
    ray.kill(holder)
    idle = [[2.0, pytest.approx(memory), 100, 16]] * 2
    assert settled(lambda: rows(source), idle) == idle


@pytest.mark.parametrize(("node", "said"), [(None, "node must be named"), ("10.0.0.9", "one of them, got '10.0.0.9'")])
def test_source_when_the_node_is_not_clear_names_those_that_there_are(cluster, node, said):
    with pytest.raises(RayNodeError, match=said) as caught:
        RaySource(node).timelines()
    assert cluster["head"] in str(caught.value)
    assert cluster["small"] in str(caught.value)


def test_snapshot_when_asked_of_ray_shows_the_node(cluster, capsys):
    words = ["snapshot", "--ray", cluster["address"], "--node", cluster["head"], "--gpu-memory", "16", "--json"]
    assert main(words) == 0
    gpus = json.loads(capsys.readouterr().out)["gpus"]
    assert [gpu["gpu_mem_gb"] for gpu in gpus] == [16, 16]
