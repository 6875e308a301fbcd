from __future__ import annotations

import json

import pytest
import yaml

from tests.targets.plans import CPU, GPU, configured
from tomas_router.cli.main import main
from tomas_router.planner.static import static_plan

REQUEST = "Transcribe the recording of the meeting and summarise the transcript."


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(configured(CPU, GPU).model_dump_json(), encoding="utf-8")
    return str(path)


def test_targets_when_kubernetes_with_hami_write_yaml_to_one_stream_and_notes_to_the_other(plan_file, capsys):
    assert main(["targets", plan_file, "--to", "kubernetes", "--gpu", "hami", "--image", "mine:2"]) == 0
    out, err = capsys.readouterr()
    jobs = list(yaml.safe_load_all(out))
    container = jobs[1]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "mine:2"
    assert container["resources"]["limits"]["nvidia.com/gpucores"] == "31"
    assert "enforced" in err
    assert "not expressed" in err
    assert "s1 s2" in err  # one row for what both share


@pytest.mark.parametrize("target", ["ray", "ecs", "local"])
def test_targets_when_the_format_is_json_write_json_alone(target, plan_file, capsys):
    assert main(["targets", plan_file, "--to", target]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


@pytest.mark.parametrize("target", ["docker", "slurm"])
def test_targets_when_the_format_is_a_script_write_one_command_a_step(target, plan_file, capsys):
    assert main(["targets", plan_file, "--to", target]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "#!/bin/sh"
    assert len([line for line in lines if "docker run" in line or "sbatch" in line]) == 2


def test_targets_when_nothing_is_planned_say_so(tmp_path, capsys):
    path = tmp_path / "none.json"
    path.write_text(static_plan().model_dump_json(), encoding="utf-8")
    assert main(["targets", str(path), "--to", "ray"]) == 0
    assert "no_tool (not_needed)" in capsys.readouterr().err


def test_targets_when_the_target_shares_gpus_in_no_such_way_are_refused(plan_file, capsys):
    assert main(["targets", plan_file, "--to", "slurm", "--gpu", "hami"]) == 2
    assert "mps, gpu, got 'hami'" in capsys.readouterr().err


@pytest.mark.m5
def test_plan_when_given_a_target_prints_it_instead_of_the_plan(capsys):
    assert main(["plan", REQUEST, "--target", "docker", "--image", "mine"]) == 0
    assert "docker run --rm --cpus=" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--gpu", "mig"], ["--target", "ray", "--json"]])
def test_plan_when_target_options_do_not_go_together_says_which(words, capsys):
    with pytest.raises(SystemExit):
        main(["plan", REQUEST, *words])
    assert "--target" in capsys.readouterr().err
