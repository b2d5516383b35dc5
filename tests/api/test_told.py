"""What the daemon tells about itself."""

from __future__ import annotations

import httpx
import pytest
from openai import NotFoundError, OpenAI
from prometheus_client.parser import text_string_to_metric_families

from gemmad.supervisor.listener import Outlook
from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import HI, URL


def test_models(client: OpenAI) -> None:
    """Every served name is listed, the reported one first, with the context that is served."""
    listed = list(client.models.list())
    assert [model.id for model in listed] == [MODEL, "gemma"]
    assert listed[0].owned_by == "gemmad"
    assert listed[0].created > 1_700_000_000
    assert listed[0].model_extra is not None
    assert listed[0].model_extra["max_model_len"] == 8192
    assert client.models.retrieve("gemma").id == "gemma"
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve("google/gemma-3-4b-it")
    assert caught.value.code == "model_not_found"


def test_the_folder_names_the_model(stage: Stage, client: OpenAI) -> None:
    """Without names in the config the checkpoint's folder gives its own, and both names answer as they are asked."""
    assert client.chat.completions.create(model="gemma", messages=HI).model == "gemma"  # type: ignore[arg-type]
    with stage.settings(model={"served_names": ()}):
        assert [model.id for model in client.models.list()] == ["checkpoint"]


def test_health(stage: Stage, http: httpx.Client) -> None:
    """Health is 503 and says loading, with each worker's progress, until a worker is ready; live is 200 throughout."""
    ready = http.get("/health")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["workers"] == [{"name": "cpu0", "state": "ready"}]
    stage.call(lambda: stage.worker.leave(Outlook.LOADING))
    loading = http.get("/health")
    assert (loading.status_code, loading.json()["status"]) == (503, "loading")
    assert loading.json()["workers"] == [{"name": "cpu0", "state": "starting", "stage": "weights", "progress": 0.5}]
    assert loading.headers["retry-after"]
    assert http.get("/health/ready").status_code == 503
    assert http.get("/health/live").status_code == 200
    for outlook, state in ((Outlook.RETURNING, "recovering"), (Outlook.NOBODY, "failed")):
        stage.call(lambda outlook=outlook: stage.dispatcher.outlook_changed(outlook, wait_seconds=1.0))  # type: ignore[misc]
        assert (http.get("/health").status_code, http.get("/health").json()["status"]) == (503, state)


def test_a_tokenizer_that_is_not_there_yet(stage: Stage, http: httpx.Client) -> None:
    """A worker alone does not make the daemon ready."""
    stage.served = False
    assert (http.get("/health").status_code, http.get("/health").json()["status"]) == (503, "loading")


def test_small_answers(http: httpx.Client) -> None:
    """The version, an overview for people, and HEAD wherever there is GET."""
    assert http.get("/version").json() == {"version": "1.2.3"}
    assert MODEL in http.get("/").text
    for path in ("/", "/health", "/v1/models", "/version"):
        head = http.head(path)
        assert head.status_code == 200
        assert head.content == b""


def test_metrics(stage: Stage, http: httpx.Client) -> None:
    """Prometheus can parse the metrics, and they count what happened."""

    def values() -> dict[str, float]:
        families = text_string_to_metric_families(http.get("/metrics").text)
        return {
            f"{sample.name}{sorted(sample.labels.items()) if sample.labels else ''}": sample.value
            for family in families
            for sample in family.samples
        }

    before = values()
    assert http.post(URL, json={"model": MODEL, "messages": HI}).status_code == 200
    after = values()
    for name in (
        "gemmad_time_to_first_token_seconds_count",
        "gemmad_e2e_request_latency_seconds_count",
        "gemmad_requests_total[('outcome', 'stop')]",
    ):
        assert after[name] == before.get(name, 0) + 1
    said = len(stage.tokens("Hello there.")) + 1
    assert after["gemmad_generation_tokens_total"] == before["gemmad_generation_tokens_total"] + said
    assert after["gemmad_inter_token_latency_seconds_count"] > before["gemmad_inter_token_latency_seconds_count"]
    assert after["gemmad_worker_state[('state', 'ready'), ('worker', 'cpu0')]"] == 1
    assert after["gemmad_requests_running"] == after["gemmad_requests_waiting"] == 0
    assert after["gemmad_config_reload_success"] == 1
