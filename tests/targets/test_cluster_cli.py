"""Asks the real programs, which check their options before they look for a server: ``pytest -m cluster_cli``.

Debian: ``apt-get install docker.io slurm-client``; sbatch wants a slurm.conf. Deselected by default.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.targets.plans import CPU, GPU, configured

pytestmark = pytest.mark.cluster_cli
DOCKER, SBATCH = shutil.which("docker"), shutil.which("sbatch")


def complaint(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stderr


@pytest.mark.skipif(DOCKER is None, reason="needs the program docker: apt-get install docker.io")
@pytest.mark.parametrize("step", ["s1", "s2"])
def test_docker_when_given_our_flags_complains_about_its_server_alone(step):
    flags = configured(CPU, GPU).to_docker()[step].options
    no_server = ["docker", "--host=tcp://127.0.0.1:9", "create"]
    assert "daemon" in complaint(*no_server, *flags, "image")
    assert "unknown flag" in complaint(*no_server, *flags, "--memori=1g", "image")
    assert "invalid" in complaint(*no_server, *flags, "--memory=1q", "image")


@pytest.mark.skipif(SBATCH is None, reason="needs the program sbatch: apt-get install slurm-client")
@pytest.mark.parametrize("step", ["s1", "s2"])
def test_sbatch_when_given_our_options_complains_about_its_server_alone(step, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\ntrue\n", encoding="utf-8")
    options = [option.replace("$s1", "7") for option in configured(CPU, GPU).to_slurm()[step].options]
    assert "slurm controller" in complaint("sbatch", *options, str(script))
    assert "unrecognized option" in complaint("sbatch", *options, "--memori=1G", str(script))
    assert "Invalid" in complaint("sbatch", *options, "--mem=1Q", str(script))
