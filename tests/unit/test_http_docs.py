"""`docs/http.md` names every route with its scope, and every setting and metric that it mentions is there."""

import re
import sys
from pathlib import Path

# Test folders are no packages; this lets the tests of this one share `serving_house`.
sys.path.insert(0, str(Path(__file__).parent))

from serving_house import ServingHouse

from stream_app.settings import ServeSettings

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()


def test_the_table_of_routes_is_the_openapi_document() -> None:
    document = ServingHouse().client.get("/openapi.json").json()
    declared = {
        (f"{method.upper()} {path}", operation["x-scope"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \| (\w+) \|", PAGE, flags=re.MULTILINE)) == declared


def test_every_setting_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`serve\.(\w+)", PAGE))
    assert named
    assert named <= ServeSettings.model_fields.keys()
