"""The doors to the models: where they stand, and which version serves."""

import sys
from pathlib import Path

import pytest

# Test folders are no packages; this lets the tests of this one share `serving_house`.
sys.path.insert(0, str(Path(__file__).parent))

from serving_house import NOW, ServingHouse

from stream_app.serving.routes import models as doors
from stream_app.storage.retention import Published
from stream_app.values import ControlEntry, StoredArtifact, Version, VersionStatus


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> ServingHouse:
    monkeypatch.setattr(doors, "ANSWER_S", 0.2)
    house = ServingHouse()
    for status in (VersionStatus.PROMOTED, VersionStatus.PROMOTED, VersionStatus.REJECTED):
        house.registry.register(_version(status))
    house.registry.seq = 2
    return house


def _version(status: VersionStatus) -> Version:
    return Version(
        model="m",
        number=0,
        kind="batch",
        algorithm="sklearn:LogisticRegression",
        status=status,
        artifact=None,
        metrics={"accuracy": 0.9},
        trained_through=2,
        row_count=2,
        rows_digest="abc",
        parent=1,
        trigger="volume",
        created_at=NOW,
    )


def serve(house: ServingHouse, *versions: str) -> None:
    for seq, version in enumerate(versions, 1):
        artifact = StoredArtifact(path=f"m/{version}", sha256="d" * 64, size=1, signature="")
        house.registry.publish(
            Published(model="m", version=version, promotion_seq=seq, published_at=NOW, artifact=artifact)
        )


def test_each_model_says_where_it_stands_and_what_answers_here(house: ServingHouse) -> None:
    [row] = house.client.get("/models").json()["models"]

    assert (row["model"], row["windows"], row["learned"], row["score"], row["metric"]) == ("m", 2, 20, 0.75, "accuracy")
    assert row["served"] == {"version": "3", "digest": "d" * 64, "freshness_s": 0.0}
    assert house.client.get("/status").json() == house.client.get("/models").json()


def test_one_model_says_what_a_record_looks_like(house: ServingHouse) -> None:
    model = house.client.get("/models/m").json()

    assert (model["task"], model["target"], model["classes"]) == ("binary", "up", [0, 1])
    assert model["features"][0] == {
        "name": "a",
        "type": "number",
        "low": -10,
        "high": 10,
        "required": True,
        "values": None,
    }
    assert house.client.get("/models/x").status_code == 404


def test_versions_are_told_with_their_lineage(house: ServingHouse) -> None:
    serve(house, "1", "2")
    versions = house.client.get("/models/m/versions").json()["versions"]

    assert [(v["version"], v["status"]) for v in versions] == [(3, "rejected"), (2, "champion"), (1, "promoted")]
    assert versions[0]["rows_digest"] == "abc"


def test_curves_have_a_point_for_each_window(house: ServingHouse) -> None:
    points = house.client.get("/models/m/history?newest=2").json()["points"]

    assert [point["seq"] for point in points] == [1, 2]
    assert points[-1]["online"] == 0.8
    assert points[-1]["served"] is None
    assert house.client.get("/models/m/history?newest=0").status_code == 422


def test_a_promotion_is_asked_for_and_answered(house: ServingHouse) -> None:
    house.control.answers[1] = ControlEntry(request_id=1, kind="promote", body={"version": 2}, accepted=True, reason="")
    answer = house.client.post("/models/m/promote", json={"version": 2})

    assert answer.status_code == 200
    assert answer.json() == {"model": "m", "version": 2, "request": 1, "accepted": True, "reason": ""}
    assert house.control.asked == [("m", "promote", {"version": 2}, "api:anonymous")]
    assert [(deed.action, deed.details["version"]) for deed in house.audit.deeds] == [("promote", 2)]


def test_a_refusal_is_a_conflict_with_its_reason(house: ServingHouse) -> None:
    refused = ControlEntry(
        request_id=1, kind="promote", body={"version": 2}, accepted=False, reason="it serves already"
    )
    house.control.answers[1] = refused
    answer = house.client.post("/models/m/promote", json={"version": 2})

    assert answer.status_code == 409
    assert answer.json()["error"] == "m: it serves already"


def test_without_a_worker_the_request_waits(house: ServingHouse) -> None:
    answer = house.client.post("/models/m/promote", json={"version": 2})

    assert answer.status_code == 202
    assert answer.json()["accepted"] is None


def test_a_rollback_goes_to_what_served_before(house: ServingHouse) -> None:
    assert house.client.post("/models/m/rollback").status_code == 409
    serve(house, "1", "2")
    assert house.client.post("/models/m/rollback").json()["version"] == 1
    assert house.client.post("/models/m/rollback", json={"version": 2}).json()["version"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/models/m/promote", {"version": 3}, 409),
        ("/models/m/promote", {"version": 9}, 404),
        ("/models/x/promote", {"version": 1}, 404),
        ("/models/m/promote", {}, 422),
        ("/models/m/promote", {"version": "2"}, 422),
        ("/models/m/promote", {"version": True}, 422),
        ("/models/m/promote", [2], 422),
    ],
)
def test_what_cannot_serve_is_refused_at_the_door(house: ServingHouse, path: str, body: object, status: int) -> None:
    assert house.client.post(path, json=body).status_code == status
    assert house.control.asked == []
