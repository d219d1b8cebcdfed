"""Loading the settings: which source wins, how names are matched, and how mistakes are told."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.configuration import Mistakes, dotted, draft, explained, load, mistakes, redacted
from stream_app.errors import Misconfigured
from stream_app.layers import Layer, locate, merged
from stream_app.messages import NAME_PATTERN
from stream_app.settings import Settings
from stream_app.values import Task

MODEL = """
[models."my.model-a"]
task = "binary"
target = "y"
[models."my.model-a".features]
MedInc = {}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, without what the environment of the tests may hold."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STREAM_APP_")]:
        monkeypatch.delenv(name)
    return tmp_path


def told(overrides: dict[str, str] | None = None, file: Path | None = None) -> list[str]:
    """Return the mistakes, there must be some."""
    found = mistakes(file, overrides or {})
    assert found
    return found


def test_without_any_source_the_defaults_hold() -> None:
    assert load() == Settings()


def test_each_source_beats_the_one_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("file", "dotenv", "environment", "command_line")
    keys = ("group_id", "topics.ground_truth", "topics.model_updated", "topics.learning_events")
    tables = "\n".join(f'{key} = "file-{i}"' for i, key in enumerate(keys))
    (folder / "stream_app.toml").write_text(f"[kafka]\n{tables}")
    variables = [f"STREAM_APP_KAFKA__{key.upper().replace('.', '__')}" for key in keys]
    (folder / ".env").write_text("\n".join(f"{name}=dotenv-{i}" for i, name in enumerate(variables) if i > 0))
    for i, name in enumerate(variables[2:], start=2):
        monkeypatch.setenv(name, f"environment-{i}")

    kafka = load(None, {"kafka.topics.learning_events": "command_line-3"}).kafka

    found = (kafka.group_id, kafka.topics.ground_truth, kafka.topics.model_updated, kafka.topics.learning_events)
    assert found == tuple(f"{name}-{i}" for i, name in enumerate(names))


@given(
    st.lists(
        st.recursive(
            st.dictionaries(st.sampled_from("abc"), st.integers()),
            lambda inner: st.dictionaries(st.sampled_from("abc"), inner),
        ),
        max_size=4,
    )
)
def test_the_last_layer_is_always_whole_in_the_result(trees: list[dict[str, object]]) -> None:
    result = merged([Layer(name=str(i), tree=tree) for i, tree in enumerate(trees)])

    def inside(part: object, whole: object) -> bool:
        if isinstance(part, dict):
            return isinstance(whole, dict) and all(k in whole and inside(v, whole[k]) for k, v in part.items())
        return part == whole

    assert not trees or inside(trees[-1], result)


def test_a_named_file_must_exist() -> None:
    with pytest.raises(Misconfigured, match=r"missing\.toml: cannot be read"):
        load(Path("missing.toml"))


def test_broken_toml_is_told_with_its_place(folder: Path) -> None:
    (folder / "stream_app.toml").write_text("[kafka\n")

    with pytest.raises(Misconfigured, match=r"stream_app\.toml: no valid TOML: .*line 1"):
        load()


@pytest.mark.parametrize("name", ["stream_app.toml", ".env"])
def test_a_file_that_is_no_text_is_told(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"A=\xff\xfe")

    with pytest.raises(Misconfigured, match=name):
        load()


def test_relative_paths_in_a_file_are_relative_to_its_folder(folder: Path) -> None:
    (folder / "conf").mkdir()
    file = folder / "conf" / "a.toml"
    file.write_text('[storage]\nroot = "state"\n[models.m]\ntask="binary"\ntarget="y"\ndata="d.csv"')

    settings = load(file)

    assert settings.storage.root == folder / "conf" / "state"
    assert settings.models["m"].data == folder / "conf" / "d.csv"


def test_urls_in_a_file_are_no_paths(folder: Path) -> None:
    (folder / "stream_app.toml").write_text('[storage]\nartifacts = "s3://bucket/models"')

    assert load().storage.artifacts == "s3://bucket/models"


def test_nothing_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password may hold a dollar sign."""
    monkeypatch.setenv("X", "expanded")
    (folder / ".env").write_text("STREAM_APP_STORAGE__URL=a${X}b$X")

    url = load().storage.url

    assert url is not None
    assert url.get_secret_value() == "a${X}b$X"


@pytest.mark.parametrize(
    "variable",
    [
        "STREAM_APP_MODELS__MY_MODEL_A__SEED",
        "STREAM_APP_MODELS__my_model_a__SEED",
        "STREAM_APP_MODELS__my.model-a__seed",
        "STREAM_APP_models__MY_MODEL_A__seed",
    ],
)
def test_a_variable_finds_a_declared_model_whatever_its_dashes_and_dots(
    variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "stream_app.toml").write_text(MODEL)
    monkeypatch.setenv(variable, "7")

    settings = load()

    assert list(settings.models) == ["my.model-a"]
    assert settings.models["my.model-a"].seed == 7


def test_a_variable_finds_a_declared_feature_whatever_its_case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stream_app.toml").write_text(MODEL)
    monkeypatch.setenv("STREAM_APP_MODELS__MY_MODEL_A__FEATURES__MEDINC__LOW", "0")

    assert load().models["my.model-a"].features["MedInc"].low == 0


def test_a_name_with_two_underscores_is_found_as_a_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stream_app.toml").write_text('[models.a__b]\ntask="binary"\ntarget="y"')
    monkeypatch.setenv("STREAM_APP_MODELS__A__B__SEED", "7")

    assert load().models["a__b"].seed == 7


def test_a_model_is_not_hidden_by_one_whose_name_ends_like_a_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stream_app.toml").write_text(
        '[models.a]\ntask="binary"\ntarget="y"\n[models.a__seed]\ntask="binary"\ntarget="y"'
    )
    monkeypatch.setenv("STREAM_APP_MODELS__A__SEED", "7")

    assert load().models["a"].seed == 7


def folded(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


NAMES = st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: "__" not in folded(name) and name[-1].isalnum())


@given(st.lists(NAMES, min_size=1, max_size=5, unique_by=folded))
def test_every_declared_model_has_a_variable(names: list[str]) -> None:
    declared = {"models": {name: {} for name in names}}

    for name in names:
        key, _ = locate(["MODELS", folded(name), "ONLINE", "ADAPTER"], declared, joiner="__")
        assert key == ("models", name, "online", "adapter")


def test_a_variable_that_could_mean_two_models_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stream_app.toml").write_text(
        '[models.a-b]\ntask="binary"\ntarget="y"\n[models."a.b"]\ntask="binary"\ntarget="y"'
    )
    monkeypatch.setenv("STREAM_APP_MODELS__A_B__SEED", "7")

    assert told() == ["STREAM_APP_MODELS__A_B__SEED: could mean any of a-b, a.b; expected a name that fits one only"]


def test_a_model_can_be_declared_by_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_APP_MODELS__PLANS__TASK", "multiclass")
    monkeypatch.setenv("STREAM_APP_MODELS__PLANS__TARGET", "plan")
    monkeypatch.setenv("STREAM_APP_MODELS__PLANS__CLASSES", '["a", "b", "c"]')

    model = load().models["plans"]

    assert (model.task, model.target, model.classes) == (Task.MULTICLASS, "plan", ("a", "b", "c"))


def test_a_whole_section_can_be_given_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_APP_MODELS", '{"my-model": {"task": "regression", "target": "y"}}')

    assert load().models["my-model"].task is Task.REGRESSION


def test_librdkafka_options_take_underscores_for_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_APP_KAFKA__EXTRA__SASL_USERNAME", "u")

    assert load(None, {"kafka.extra.security.protocol": "SASL_SSL"}).kafka.extra == {
        "sasl.username": "u",
        "security.protocol": "SASL_SSL",
    }


@pytest.mark.parametrize("variable", ["STREAM_APP_PORT", "STREAM_APP_SERVICE_HOST", "STREAM_APP_CRASH", "OTHER__X"])
def test_variables_that_are_no_settings_are_left_alone(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets such for a service that is called stream-app."""
    monkeypatch.setenv(variable, "x")

    assert load() == Settings()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("STREAM_APP_KAFKA_GROUP_ID", "STREAM_APP_KAFKA__GROUP_ID"),
        ("STREAM_APP_SERVE_PORT", "STREAM_APP_SERVE__PORT"),
        ("STREAM_APP_KAFKA_TOPICS_GROUND_TRUTH", "STREAM_APP_KAFKA__TOPICS__GROUND_TRUTH"),
        ("STREAM_APP_KAFKA_EXTRA_SASL_PASSWORD", "STREAM_APP_KAFKA__EXTRA__SASL_PASSWORD"),
        ("STREAM_APP_KAFKA_TOPICS", "STREAM_APP_KAFKA__TOPICS"),
        ("STREAM_APP_MODELS_A_ONLINE_PARAMS_L2", "STREAM_APP_MODELS__A__ONLINE__PARAMS__L2"),
        ("STREAM_APP_STORAGE_URL_FILE", "STREAM_APP_STORAGE__URL_FILE"),
        ("STREAM_APP_MODELS_MY_MODEL_SEED", "STREAM_APP_MODELS__MY_MODEL__SEED"),
        ("STREAM_APP_MODELS_A_FEATURES_MEDINC_LOW", "STREAM_APP_MODELS__A__FEATURES__MEDINC__LOW"),
    ],
)
def test_a_variable_with_too_few_underscores_is_ignored_with_a_warning(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error: it may be set by Kubernetes for a service of such a name."""
    monkeypatch.setenv(variable, "tcp://10.0.0.1:80")

    assert load() == Settings()
    assert draft(None, {}).warnings == (f"{variable} is ignored, as it names no setting; did you mean {meant}?",)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STREAM_APP_PORT", "x"),
        ("STREAM_APP_SERVE_SERVICE_HOST", "x"),
        ("STREAM_APP_MODELS_SERVICE_HOST", "x"),
        ("STREAM_APP_CRASH", "x"),
        ("STREAM_APP_REQUIRE_KAFKA", "1"),
        ("STREAM_APP_KAFKA_GROUP_ID", ""),
        ("STREAM_APP_KAFKA__GROUP_ID", "x"),
        ("KAFKA_GROUP_ID", "x"),
    ],
)
def test_what_resembles_no_setting_is_no_reason_to_warn(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    assert draft(None, {}).warnings == ()


def test_a_variable_of_the_dotenv_file_is_warned_of_with_its_place(folder: Path) -> None:
    (folder / ".env").write_text("STREAM_APP_LOG_LEVEL=debug\n")

    (warning,) = draft(None, {}).warnings
    assert warning.startswith("STREAM_APP_LOG_LEVEL in .env is ignored")


def test_an_empty_variable_is_as_good_as_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files say `${URL:-}`."""
    monkeypatch.setenv("STREAM_APP_STORAGE__URL", "")
    (folder / ".env").write_text("STREAM_APP_KAFKA__GROUP_ID=\nSTREAM_APP_LOG__LEVEL")

    assert load() == Settings()


def test_a_dotted_key_finds_a_model_with_dots(folder: Path) -> None:
    (folder / "stream_app.toml").write_text(MODEL)

    settings = load(None, {"models.my.model-a.seed": "7", 'models."my.model-a".metric': "logloss"})

    assert (settings.models["my.model-a"].seed, settings.models["my.model-a"].metric) == (7, "logloss")


def test_parameters_of_a_learner_keep_their_types(folder: Path) -> None:
    (folder / "stream_app.toml").write_text(MODEL)
    key = "models.my.model-a.online.params"

    params = load(None, {f"{key}.l2": "0.1", f"{key}.loss": "hinge", f"{key}.deep.x": "[1]"}).models["my.model-a"]

    assert params.online.params == {"l2": 0.1, "loss": "hinge", "deep": {"x": [1]}}


def test_none_turns_off_what_can_be_off(folder: Path) -> None:
    (folder / "stream_app.toml").write_text(MODEL + '[models."my.model-a".retrain]\nevery_records = "none"')

    assert load().models["my.model-a"].retrain.every_records is None


def test_none_is_no_number_where_one_is_needed() -> None:
    assert told({"kafka.fetch_records": "none"}) == [
        "kafka.fetch_records = 'none' (--set kafka.fetch_records): expected a whole number"
    ]


class TestSecretsFromFiles:
    def test_a_secret_is_read_without_its_last_line_break(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "url").write_text("postgresql://u:p@h/db\n")
        monkeypatch.setenv("STREAM_APP_STORAGE__URL_FILE", str(folder / "url"))

        url = load().storage.url

        assert url is not None
        assert url.get_secret_value() == "postgresql://u:p@h/db"

    def test_librdkafka_options_too(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "password").write_text("p")
        monkeypatch.setenv("STREAM_APP_KAFKA__EXTRA__SASL_PASSWORD_FILE", str(folder / "password"))

        assert load().kafka.extra == {"sasl.password": "p"}

    def test_a_file_that_is_not_there_is_a_mistake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STREAM_APP_STORAGE__URL_FILE", "/missing")

        assert told()[0].startswith("STREAM_APP_STORAGE__URL_FILE = '/missing': expected a readable file")

    def test_both_ways_at_once_are_a_mistake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STREAM_APP_STORAGE__URL_FILE", "x")
        monkeypatch.setenv("STREAM_APP_STORAGE__URL", "y")

        assert told() == ["STREAM_APP_STORAGE__URL and STREAM_APP_STORAGE__URL_FILE are both set; expected one of them"]


class TestMistakes:
    def test_all_are_told_at_once_with_key_value_origin_and_expectation(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "stream_app.toml").write_text(
            '[kafka]\nsession_timeout_s = "fast"\n[models.Bad]\ntask="binary"\ntarget="y"\n[models.m]\ntask = "binry"\n'
        )
        (folder / ".env").write_text("STREAM_APP_LOG__FORMAT=xml")
        monkeypatch.setenv("STREAM_APP_HTTP__WORKER_PORT", "99999")

        assert told({"storage.keep_versions": "0"}) == [
            "kafka.session_timeout_s = 'fast' (stream_app.toml): expected a number",
            "storage.keep_versions = '0' (--set storage.keep_versions): expected a number of at least 1",
            "http.worker_port = '99999' (STREAM_APP_HTTP__WORKER_PORT): expected a number of at most 65535",
            "log.format = 'xml' (STREAM_APP_LOG__FORMAT in .env): expected 'auto', 'json' or 'console'",
            "models.Bad = 'Bad' (stream_app.toml): expected a name that matches ^[a-z0-9][a-z0-9._-]{0,63}$",
            "models.m.task = 'binry' (stream_app.toml): expected 'binary', 'multiclass' or 'regression'",
            "models.m.target: expected it to be set",
        ]

    def test_what_declares_a_model_that_lacks_a_key_is_named(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise nobody finds the model, which is in no file."""
        (folder / "stream_app.toml").write_text("[models.m]\ntarget = 'y'")
        monkeypatch.setenv("STREAM_APP_MODELS__M__SEED", "3")
        monkeypatch.setenv("STREAM_APP_MODELS__N__SEED", "3")

        assert told({"models.o.seed": "3"}) == [
            "models.m.task: expected it to be set",
            "models.n.task: expected it to be set, since STREAM_APP_MODELS__N__SEED declares models.n",
            "models.n.target: expected it to be set, since STREAM_APP_MODELS__N__SEED declares models.n",
            "models.o.task: expected it to be set, since --set models.o.seed declares models.o",
            "models.o.target: expected it to be set, since --set models.o.seed declares models.o",
        ]

    def test_an_unknown_key_suggests_the_nearest(self) -> None:
        assert told({"kafka.grup_id": "x"}) == [
            "kafka.grup_id (--set kafka.grup_id): unknown key; did you mean group_id?"
        ]

    def test_a_key_that_nothing_resembles_is_told_what_there_is(self) -> None:
        assert told({"log.qqq": "x"}) == ["log.qqq (--set log.qqq): unknown key; expected one of level, format"]

    def test_an_unknown_section_is_told_too(self) -> None:
        assert told({"kafak.group_id": "x"}) == ["kafak (command line): unknown key; did you mean kafka?"]

    def test_alternatives_that_all_fail_are_one_mistake(self, folder: Path) -> None:
        (folder / "stream_app.toml").write_text('[kafka.extra]\n"linger.ms" = [1]')

        (mistake,) = told()

        assert mistake.startswith('kafka.extra."linger.ms" = [1] (stream_app.toml): expected a text or a whole number')

    def test_a_secret_is_not_told(self, folder: Path) -> None:
        (folder / "stream_app.toml").write_text(
            '[storage]\nurl = ["hunter2"]\n[kafka.extra]\n"sasl.password" = ["hunter2"]'
        )

        found = told()

        assert len(found) == 2
        assert "hunter2" not in "".join(found)

    def test_settings_that_contradict_each_other(self, folder: Path) -> None:
        (folder / "stream_app.toml").write_text(
            MODEL + '[kafka.ingest]\nraw = "my.model-b"\nground-truth = "my.model-a"'
        )

        assert told() == [
            "kafka.ingest.raw = 'my.model-b': expected a model that is declared; did you mean my.model-a?",
            "kafka.ingest.ground-truth: expected a topic of its own, not one of ours",
        ]

    def test_broken_json_in_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STREAM_APP_KAFKA__INGEST", "{raw: m}")

        assert told()[0].startswith("STREAM_APP_KAFKA__INGEST: expected JSON (")

    def test_a_key_that_is_no_key(self) -> None:
        assert told({"kafka group": "x"}) == ["--set kafka group: expected a dotted key such as kafka.group_id"]

    def test_the_error_holds_them_one_a_line(self) -> None:
        with pytest.raises(Mistakes) as caught:
            load(None, {"kafka.grup_id": "x", "log.level": "loud"})

        assert str(caught.value).splitlines()[0] == "2 mistakes in the settings:"
        assert len(caught.value.mistakes) == 2

    def test_there_are_none_when_all_is_well(self) -> None:
        assert mistakes(None, {}) == []


class TestShowing:
    def test_secrets_are_redacted_wherever_they_stand(self) -> None:
        shown = redacted(
            load(
                None,
                {
                    "storage.url": "postgresql://u:hunter2@h/db",
                    "storage.artifacts": "s3://id:hunter2@bucket/x",
                    "storage.signing_key": "hunter2",
                    "storage.checkpoint_key": "hunter2",
                    "kafka.extra.sasl.password": "hunter2",
                    "kafka.extra.ssl.key.password": "hunter2",
                    "kafka.extra.sasl.username": "shown",
                },
            )
        )

        assert "hunter2" not in str(shown)
        assert shown["kafka"]["extra"]["sasl.username"] == "shown"

    def test_what_is_not_the_default_names_who_set_it(self, folder: Path) -> None:
        (folder / "stream_app.toml").write_text('[kafka]\ngroup_id = "a"')

        origins = {key: origin for key, _, origin in explained(None, {"log.level": "debug"}) if origin}

        assert origins == {"kafka.group_id": "stream_app.toml", "log.level": "--set log.level"}

    def test_what_is_shown_can_be_read_again(self, folder: Path) -> None:
        (folder / "stream_app.toml").write_text(MODEL)
        shown = {key: value for key, value, _ in explained(None, {}) if isinstance(value, int | float | str)}

        assert load(None, {key: str(value) for key, value in shown.items()}) == load()


def test_keys_are_shown_as_toml_writes_them() -> None:
    assert dotted(("models", "my.model", "target")) == 'models."my.model".target'
