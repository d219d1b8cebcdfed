"""Every route says which scope it needs, and lets nobody in without it: made from the OpenAPI document."""

import sys
from pathlib import Path

import orjson
import pytest

# Test folders are no packages; this lets the tests of this one share `serving_house`.
sys.path.insert(0, str(Path(__file__).parent))

from serving_house import RECORD, ServingHouse

from stream_app.serving.declaring import NO_SCOPE
from stream_app.serving.doors import FRESH_S, Scope
from stream_app.settings import ServeSettings

OPEN = {"/livez", "/readyz", "/version"}


def _operations() -> list[tuple[str, str, str]]:
    """Return method, path and scope of every operation."""
    document = ServingHouse().client.get("/openapi.json").json()
    return [
        (method.upper(), path, operation["x-scope"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


OPERATIONS = _operations()
GUARDED = [one for one in OPERATIONS if one[1] not in OPEN]


@pytest.fixture
def house() -> ServingHouse:
    return ServingHouse()


def test_only_three_routes_need_no_key() -> None:
    assert {path for _, path, scope in OPERATIONS if scope == NO_SCOPE} == OPEN


def test_every_route_that_there_is_is_described() -> None:
    from stream_app.serving.routes import ROUTERS  # noqa: PLC0415

    declared = {(method, route.path) for router in ROUTERS for route in router.routes for method in route.methods}  # type: ignore[attr-defined]  # they are API routes
    assert declared == {(method, path) for method, path, _ in OPERATIONS}


@pytest.mark.parametrize(("method", "path", "scope"), GUARDED)
def test_a_route_refuses_who_lacks_its_scope(house: ServingHouse, method: str, path: str, scope: str) -> None:
    others = [one for one in Scope if one not in {Scope(scope), Scope.ADMIN}]
    path = path.replace("{name}", "m").replace("{model_name}", "m")
    assert house.client.request(method, path, headers=house.key(*others)).status_code == 403
    assert house.client.request(method, path).status_code == 401
    assert house.client.request(method, path, headers={"X-API-Key": "nobody's"}).status_code == 401
    assert house.client.request(method, path, headers=house.key(Scope(scope))).status_code not in {401, 403}
    assert house.client.request(method, path, headers=house.key(Scope.ADMIN)).status_code not in {401, 403}
    assert house.lines == house.store.opinions == house.sent == []


@pytest.mark.parametrize(("method", "path", "scope"), OPERATIONS)
def test_every_status_that_a_route_answers_with_is_described(method: str, path: str, scope: str) -> None:
    document = ServingHouse().client.get("/openapi.json").json()
    operation = document["paths"][path][method.lower()]
    told = set(operation["responses"])
    always = {"500", "503"} | ({"401", "403", "429"} if scope != NO_SCOPE else set())
    assert told >= always | ({"413", "422"} if "requestBody" in operation else set())


@pytest.mark.parametrize("path", sorted(OPEN))
def test_what_orchestrators_ask_needs_no_key(house: ServingHouse, path: str) -> None:
    house.key(Scope.ADMIN)
    assert house.client.get(path).status_code == 200


def test_a_key_comes_in_either_header(house: ServingHouse) -> None:
    key = house.key(Scope.READ)["X-API-Key"]
    assert house.client.get("/healthz", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert house.client.get("/healthz", headers={"Authorization": f"bearer  {key}"}).status_code == 200
    refused = house.client.get("/healthz", headers={"Authorization": f"Basic {key}"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def test_a_revoked_key_is_refused_as_soon_as_it_is_asked_about_again(house: ServingHouse) -> None:
    header = house.key(Scope.READ)
    assert house.client.get("/healthz", headers=header).status_code == 200
    house.keys.revoke(header["X-API-Key"], now=house.now)
    house.now += FRESH_S + 1
    assert house.client.get("/healthz", headers=header).status_code == 401


def test_an_expired_key_is_refused_at_once(house: ServingHouse) -> None:
    key, _ = house.keys.create("x", [Scope.READ], now=house.now, expires_at=house.now + 1)
    assert house.client.get("/healthz", headers={"X-API-Key": key}).status_code == 200
    house.now += 1
    house.keys.create("y", [Scope.READ], now=house.now, expires_at=None)
    assert house.client.get("/healthz", headers={"X-API-Key": key}).status_code == 401


def test_the_database_is_asked_once_for_many_requests(house: ServingHouse) -> None:
    header = house.key(Scope.READ)
    for _ in range(20):
        house.client.get("/healthz", headers=header)
    assert house.keys.asked == 1


def test_while_the_database_is_away_known_keys_still_open_and_others_are_told_to_wait(house: ServingHouse) -> None:
    known, unknown = house.key(Scope.PREDICT), house.key(Scope.READ)
    assert house.client.post("/predict", content=orjson.dumps(RECORD), headers=known).status_code == 200
    house.keys.is_away = True
    house.now += 10 * FRESH_S
    assert house.client.post("/predict", content=orjson.dumps(RECORD), headers=known).status_code == 200
    assert house.client.get("/healthz", headers=unknown).status_code == 503


def test_a_key_has_so_many_requests_and_gets_more_with_time() -> None:
    house = ServingHouse(settings=ServeSettings(rate_per_s=2, burst=3))
    one, other = house.key(Scope.READ), house.key(Scope.ADMIN)
    statuses = [house.client.get("/healthz", headers=one).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = house.client.get("/healthz", headers=one)
    assert (refused.json().keys(), refused.headers["retry-after"]) == ({"error", "details"}, "1")
    assert house.client.get("/healthz", headers=other).status_code == 200
    house.now += 0.5
    assert [house.client.get("/healthz", headers=one).status_code for _ in range(2)] == [200, 429]


def test_guessing_keys_is_limited_by_address() -> None:
    house = ServingHouse(settings=ServeSettings(rate_per_s=1, burst=2))
    house.key(Scope.READ)
    statuses = [house.client.get("/healthz", headers={"X-API-Key": f"guess {i}"}).status_code for i in range(3)]
    assert statuses == [401, 401, 429]


def test_without_keys_pages_of_other_sites_are_refused() -> None:
    house = ServingHouse(hosts=frozenset({"localhost"}))
    mine = {"host": "localhost:8000"}
    assert house.client.get("/healthz", headers=mine).status_code == 200
    assert house.client.get("/healthz", headers=mine | {"origin": "http://localhost:8000"}).status_code == 200
    assert house.client.get("/healthz", headers=mine | {"origin": "https://evil.example"}).status_code == 403
    assert house.client.get("/healthz", headers=mine | {"origin": "null"}).status_code == 403
    assert house.client.get("/healthz", headers={"host": "evil.example"}).status_code == 403
