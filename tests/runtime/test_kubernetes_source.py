"""Against a real HTTP server that answers in the API's shape; that shape is checked with the client's models."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes.client import ApiClient, V1Node, V1PodList

from tests.runtime.kubernetes_answers import NODE, container, node, pod, pod_list, refusal
from tomas_router.cli.main import main
from tomas_router.runtime.kubernetes_source import KubernetesError, KubernetesSource

MODELS = {"Node": V1Node, "PodList": V1PodList}


@contextmanager
def api(*answers: dict | str | tuple[int, dict]) -> Iterator[tuple[str, list]]:
    """A server that gives the answers in turn; its URL, and what was asked: (path, query, headers)."""
    left, asked = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            asked.append((url.path, dict(urllib.parse.parse_qsl(url.query)), dict(self.headers)))
            code, answer = left[0] if isinstance(left[0], tuple) else (200, left[0])
            del left[0]
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    for answer in answers:
        if isinstance(answer, dict) and answer.get("kind") in MODELS:
            read = MODELS[answer["kind"]].from_dict(answer)
            assert ApiClient().sanitize_for_serialization(read) == answer
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def rows(*answers, **settings):
    with api(*answers) as (url, _):
        return [t.capacity[0].tolist() for t in KubernetesSource(url, NODE, **settings).timelines()]


# ---- what is free -------------------------------------------------------------------------------------------


def test_node_when_pods_run_on_it_has_what_it_can_allocate_minus_their_requests():
    pods = pod_list(pod(container(cpu="420m", memory="1Gi")), pod(container(cpu="1500m", memory="520Ki")))
    ((cores, memory, *gpu),) = rows(node(), pods)
    assert cores == 2.0
    assert memory == (16256520 - 520 - 2**20) / 2**20
    assert gpu == [0, 0]


def test_node_when_it_has_gpus_has_a_curve_for_each_and_requested_ones_are_taken():
    label = {"nvidia.com/gpu.memory": "81920"}
    pods = pod_list(pod(container(**{"nvidia.com/gpu": "1"})))
    assert [row[2:] for row in rows(node(3, label), pods)] == [[100, 80], [100, 80], [0, 0]]
    assert [row[2:] for row in rows(node(1), pod_list(), gpu_memory_gib=24)] == [[100, 24]]


def test_node_when_it_has_given_away_more_than_it_has_offers_nothing_instead_of_less():
    ((cores, *_),) = rows(node(), pod_list(pod(container(cpu="5"))))
    assert cores == 0


@pytest.mark.parametrize("closed", [node(1, ready="False"), node(1, ready="Unknown"), node(1, unschedulable=True)])
def test_node_when_it_takes_no_pods_offers_nothing(closed):
    assert rows(closed, pod_list()) == [[0, 0, 0, 0]]


def test_curve_when_made_is_of_the_present_and_holds():
    with api(node(), pod_list()) as (url, _):
        (timeline,) = KubernetesSource(url, NODE).timelines()
    assert timeline.tail == "hold"
    assert len(timeline) == 1
    assert abs(timeline.epoch_ms - time.time() * 1000) < 60_000


# ---- how it is asked ----------------------------------------------------------------------------------------


def test_requests_when_sent_name_the_node_leave_ended_pods_out_and_follow_pages(tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n", encoding="ascii")
    pages = pod_list(pod(container(cpu="1")), following="next page"), pod_list(pod(container(cpu="1")))
    with api(node(), *pages) as (url, asked):
        (timeline,) = KubernetesSource(url + "/", NODE, token_file=token).timelines()
    assert timeline.capacity[0, 0] == 1.92
    paths = [path for path, _, _ in asked]
    assert paths == [f"/api/v1/nodes/{NODE}", "/api/v1/pods", "/api/v1/pods"]
    selector = f"spec.nodeName={NODE},status.phase!=Succeeded,status.phase!=Failed"
    assert asked[1][1] == {"fieldSelector": selector, "limit": "500"}
    assert asked[2][1]["continue"] == "next page"
    assert all(headers["Authorization"] == "Bearer secret" for _, _, headers in asked)


def test_pod_when_it_asks_about_its_own_cluster_uses_the_files_of_its_account(tmp_path, monkeypatch):
    with pytest.raises(KubernetesError, match="does not run in a pod"):
        KubernetesSource.in_cluster(NODE, account=tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "token").write_text("secret", encoding="ascii")
    with pytest.raises(OSError, match=r"No such file|cafile"):  # its certificates are looked for too
        KubernetesSource.in_cluster(NODE, account=tmp_path)


# ---- what goes wrong ----------------------------------------------------------------------------------------


def test_api_when_it_refuses_is_quoted():
    said = 'nodes "worker-1" is forbidden: User "system:anonymous" cannot get resource "nodes"'
    with api((403, refusal(403, said))) as (url, _), pytest.raises(KubernetesError, match=r"403 nodes .* is forbidden"):
        KubernetesSource(url, NODE).timelines()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<html>", "did not answer in JSON: is it Kubernetes"),
        ({"kind": "Else"}, "is none of Kubernetes"),
        ([1], "is none of Kubernetes"),
        ({"spec": {}, "status": {"allocatable": {"cpu": "many"}}}, "a quantity must look like"),
    ],
)
def test_answer_when_it_is_none_of_the_api_says_so(answer, said):
    answer = answer if isinstance(answer, str) else json.dumps(answer)
    with api(answer, pod_list()) as (url, _), pytest.raises(KubernetesError, match=said):
        KubernetesSource(url, NODE).timelines()


def test_server_when_it_is_not_there_is_named():
    with api() as (url, _):
        pass
    with pytest.raises(KubernetesError, match=f"{url} cannot be reached"):
        KubernetesSource(url, NODE).timelines()


def test_url_when_it_is_none_of_http_is_refused():
    with pytest.raises(ValueError, match="url must begin with http:// or https://, got 'file:///x'"):
        KubernetesSource("file:///x", NODE)


# ---- the command --------------------------------------------------------------------------------------------


def test_snapshot_when_asked_of_kubernetes_shows_the_node(capsys):
    with api(node(1), pod_list()) as (url, _):
        assert main(["snapshot", "--kubernetes", url, "--node", NODE, "--gpu-memory", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gpus"][0]["gpu_mem_gb"] == 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kubernetes", "http://127.0.0.1:9"], "--kubernetes needs --node NAME"),
        (["--kubernetes", "nowhere", "--node", "a"], "--kubernetes: url must begin"),
        (["--kubernetes", "in-cluster", "--node", "a"], "does not run in a pod"),
    ],
)
def test_snapshot_when_kubernetes_is_not_described_well_enough_says_what_is_missing(words, said, capsys, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main(["snapshot", *words]) == 2
    assert said in capsys.readouterr().err
