"""Against a real Prometheus that watches this machine by a real node exporter: ``pytest -m prometheus``.

Debian: ``apt-get install prometheus prometheus-node-exporter``. The DCGM exporter needs a GPU; its text is served by
the test. By default, where these programs need not be, the answers come from a server that repeats recorded ones.
"""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tomas_router.cli.main import main
from tomas_router.runtime.prometheus_source import PrometheusError, PrometheusSource, Queries

pytestmark = pytest.mark.m0

GIB = 2**30
PROMETHEUS = shutil.which("prometheus")
NODE_EXPORTER = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
NEEDED = "needs the programs prometheus and node exporter: apt-get install prometheus prometheus-node-exporter"
DCGM = """\
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",Hostname="here"} 30
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",Hostname="here"} 0
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a",Hostname="here"} 20480
DCGM_FI_DEV_FB_FREE{gpu="1",UUID="GPU-b",Hostname="here"} 40960
lonely{instance="x"} NaN
"""
RECORDED = {  # from Prometheus 2.42 with node exporter 1.5, by the queries of this library
    'sum by (instance) (rate(node_cpu_seconds_total{mode=~"idle|iowait",job="node"}[5s]))': """\
{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"127.0.0.1:43847"},"value":\
[1795493899.931,"0.16431199999977109"]}]}}""",
    'node_memory_MemAvailable_bytes{job="node"} / 1073741824': """\
{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"127.0.0.1:43847","job":"node"},\
"value":[1795493899.931,"23.018810272216797"]}]}}""",
    '100 - DCGM_FI_DEV_GPU_UTIL{Hostname="here"}': """\
{"status":"success","data":{"resultType":"vector","result":[{"metric":{"Hostname":"here","UUID":"GPU-a","gpu":"0",\
"instance":"127.0.0.1:44997","job":"dcgm"},"value":[1795493899.932,"70"]},{"metric":{"Hostname":"here","UUID":"GPU-b",\
"gpu":"1","instance":"127.0.0.1:44997","job":"dcgm"},"value":[1795493899.932,"100"]}]}}""",
    'DCGM_FI_DEV_FB_FREE{Hostname="here"} / 1024': """\
{"status":"success","data":{"resultType":"vector","result":[{"metric":{"Hostname":"here","UUID":"GPU-a","gpu":"0",\
"instance":"127.0.0.1:44997","job":"dcgm"},"value":[1795493899.932,"20"]},{"metric":{"Hostname":"here","UUID":"GPU-b",\
"gpu":"1","instance":"127.0.0.1:44997","job":"dcgm"},"value":[1795493899.932,"40"]}]}}""",
}
NOTHING = '{"status":"success","data":{"resultType":"vector","result":[]}}'
CONFIG = """\
global: {{scrape_interval: 250ms}}
scrape_configs:
  - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{node}']}}]}}
  - {{job_name: more, static_configs: [{{targets: ['localhost:{node}']}}]}}
  - {{job_name: dcgm, static_configs: [{{targets: ['127.0.0.1:{dcgm}']}}]}}
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def answering(status: int, body: str | None) -> Iterator[str]:
    """A server that gives the same answer to everyone, or recorded answers to recorded queries."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("query", [""])[0]
            self.wfile.write((RECORDED.get(asked, NOTHING) if body is None else body).encode())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory) -> Iterator[str]:
    if PROMETHEUS is None or NODE_EXPORTER is None:
        pytest.skip(NEEDED)
    folder = tmp_path_factory.mktemp("prometheus")
    node, port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    with answering(200, DCGM) as dcgm:
        (folder / "config.yml").write_text(CONFIG.format(node=node, dcgm=dcgm.rpartition(":")[2]))
        commands = [
            [NODE_EXPORTER, f"--web.listen-address=127.0.0.1:{node}"],
            [PROMETHEUS, f"--config.file={folder}/config.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"],
        ]  # fmt: skip
        processes = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands]
        try:
            wait_for_data(PrometheusSource(url, Queries('job="node"', 'Hostname="here"', "5s")))
            yield url
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def wait_for_data(source: PrometheusSource) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            source.timelines()
        except PrometheusError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@pytest.mark.prometheus
def test_machine_when_watched_by_prometheus_is_a_timeline_of_the_present(prometheus):
    (timeline,) = PrometheusSource(prometheus, Queries('job="node"', window="5s")).timelines()
    cores, memory_gib, *gpu = timeline.capacity[0].tolist()
    assert 0 <= cores <= psutil.cpu_count() * 1.05  # rates are extrapolated to the ends of the window
    assert memory_gib == pytest.approx(psutil.virtual_memory().available / GIB, rel=0.2)
    assert gpu == [0, 0]
    assert timeline.tail == "hold"
    assert timeline.epoch_ms == pytest.approx(time.time() * 1000, abs=10_000)


@pytest.mark.prometheus
def test_gpus_when_watched_by_dcgm_are_a_timeline_each(prometheus):
    timelines = PrometheusSource(prometheus, Queries('job="node"', 'Hostname="here"', "5s")).timelines()
    assert [t.capacity[0, 2:].tolist() for t in timelines] == [[70, 20], [100, 40]]


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (Queries('job="absent"', window="5s"), r"has no data for sum by \(instance\).*is the selector right"),
        (Queries('job=~"node|more"', window="5s"), r"must choose one machine, got 2 \(.*localhost"),
        (Queries("job=", window="5s"), "refused .*parse error"),
        (Queries('job="node"', 'Hostname="elsewhere"', "5s"), "has no data for 100 - DCGM_FI_DEV_GPU_UTIL"),
    ],
)
def test_selector_when_wrong_says_why(prometheus, queries, message):
    with pytest.raises(PrometheusError, match=message):
        PrometheusSource(prometheus, queries).timelines()


@pytest.mark.prometheus
def test_value_when_not_a_number_is_refused(prometheus, monkeypatch):
    monkeypatch.setattr(Queries, "cpu_mem_gib", property(lambda self: "lonely"))
    with pytest.raises(PrometheusError, match="lonely must be finite, got nan"):
        PrometheusSource(prometheus, Queries('job="node"', window="5s")).timelines()


@pytest.mark.prometheus
def test_commands_when_pointed_at_prometheus_show_and_record_it(prometheus, tmp_path, capsys):
    options = [
        "--prometheus",
        prometheus,
        "--select",
        'job="node"',
        "--select-gpus",
        'Hostname="here"',
        "--window",
        "5s",
    ]
    assert main(["snapshot", *options]) == 0
    assert "40.00" in capsys.readouterr().out
    assert main(["record", *options, "--every", "200ms", "--for", "400ms", "--out", str(tmp_path / "r.csv")]) == 0
    assert len((tmp_path / "r.gpu1.csv").read_text().splitlines()) == 4


@pytest.mark.prometheus
def test_page_when_no_api_is_there_says_so(prometheus):
    with pytest.raises(PrometheusError, match="answered 404 Not Found"):
        PrometheusSource(f"{prometheus}/wrong", Queries('job="node"')).timelines()
    with urllib.request.urlopen(f"{prometheus}/-/healthy") as response:
        assert response.status == 200


def test_recorded_answers_when_read_are_a_timeline_for_each_gpu():
    with answering(200, None) as url:
        timelines = PrometheusSource(url, Queries('job="node"', 'Hostname="here"', "5s")).timelines()
        (without_gpus,) = PrometheusSource(url, Queries('job="node"', window="5s")).timelines()
    cpu = [0.16431199999977109, 23.018810272216797]
    assert [t.capacity[0].tolist() for t in timelines] == [[*cpu, 70, 20], [*cpu, 100, 40]]
    assert {t.epoch_ms for t in timelines} == {1795493899931}
    assert without_gpus.capacity[0].tolist() == [*cpu, 0, 0]


def test_recorded_answers_when_the_selector_is_another_are_none():
    with answering(200, None) as url, pytest.raises(PrometheusError, match=r"has no data for .*is the selector right"):
        PrometheusSource(url, Queries('job="absent"')).timelines()


def test_commands_when_pointed_at_recorded_answers_show_and_record_them(tmp_path, capsys):
    with answering(200, None) as url:
        options = ["--prometheus", url, "--select", 'job="node"', "--select-gpus", 'Hostname="here"', "--window", "5s"]
        assert main(["snapshot", *options]) == 0
        assert main(["record", *options, "--every", "100ms", "--for", "200ms", "--out", str(tmp_path / "r.csv")]) == 0
    assert "23.02" in capsys.readouterr().out
    assert len((tmp_path / "r.gpu1.csv").read_text().splitlines()) == 4


def test_server_when_absent_is_named():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(PrometheusError, match=f"{url} cannot be reached: .*refused"):
        PrometheusSource(url, Queries('job="node"')).timelines()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, "<html>", "did not answer in JSON: is it Prometheus"),
        (200, '{"status": "success"}', "is none of Prometheus"),
        (200, "[]", "refused"),
        (401, "who are you?", "answered 401 Unauthorized"),
        (422, '{"status": "error", "error": "too many samples"}', "refused .*too many samples"),
    ],
)
def test_answer_when_not_that_of_prometheus_says_what_came(status, body, message):
    with answering(status, body) as url, pytest.raises(PrometheusError, match=message):
        PrometheusSource(url, Queries('job="node"')).timelines()


def test_url_when_of_another_scheme_is_refused(capsys):
    with pytest.raises(ValueError, match="url must begin with http:// or https://, got 'file:///etc'"):
        PrometheusSource("file:///etc", Queries('job="node"'))
    assert main(["snapshot", "--prometheus", "file:///etc"]) == 2
    assert "--prometheus: url must begin with http" in capsys.readouterr().err
