"""The environment, and what is said where it does not describe a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from endpoint_gateway.config import Config, Secret
from endpoint_gateway.errors import SettingsError
from endpoint_gateway.settings import Settings, StaticBackend, describe, load_settings
from helpers.gateway_process import start

CLUSTER = {
    "VLLM_ENDPOINTS_RELEASE_NAMESPACE": "system",
    "VLLM_ENDPOINTS_KEYRING_SECRET": "keyring",
    "VLLM_ENDPOINTS_ROOT_KEY_SECRET": "root",
    "VLLM_ENDPOINTS_GATEWAY_SERVICE": "gateway",
}
STATIC = {"BACKEND_URL": "http://127.0.0.1:8000", "API_KEYS": " sk-1, sk-2 ,"}


def test_a_cluster_needs_four_names() -> None:
    settings, static = load_settings(CLUSTER)
    assert static is None
    assert (settings.release_namespace, settings.gateway_port) == ("system", 8080)


def test_a_single_vllm_needs_its_address_and_keys() -> None:
    _, static = load_settings({**STATIC, "BACKEND_API_KEY": " sk-engine\n"})
    assert isinstance(static, Config)
    assert [key.key for key in static.keys] == [Secret("text", "sk-1"), Secret("text", "sk-2")]
    assert static.endpoints[0].backends == ["http://127.0.0.1:8000"]
    assert static.endpoints[0].api_key == Secret("text", "sk-engine")


def test_a_key_that_is_there_twice_is_one() -> None:
    _, static = load_settings({**STATIC, "API_KEYS": "sk-1,sk-1"})
    assert isinstance(static, Config)
    assert len(static.keys) == 1


def test_a_file_can_be_named_by_variable_and_by_argument_which_comes_first() -> None:
    named = {"VLLM_ENDPOINTS_CONFIG": "one.yaml"}
    assert load_settings(named)[1] == Path("one.yaml")
    assert load_settings(named, config=Path("other.yaml"))[1] == Path("other.yaml")


def test_an_empty_variable_counts_as_absent() -> None:
    empty = dict.fromkeys(("VLLM_ENDPOINTS_GATEWAY_PORT", "BACKEND_URL", "API_KEYS"), "")
    settings, static = load_settings({**CLUSTER, **empty, "VLLM_ENDPOINTS_CONFIG": ""})
    assert (settings.gateway_port, static) == (8080, None)


WRONG = {
    "no port": ({**CLUSTER, "VLLM_ENDPOINTS_GATEWAY_PORT": "http"}, "GATEWAY_PORT"),
    "a Service's link": (
        {**CLUSTER, "VLLM_ENDPOINTS_METRICS_PORT": "tcp://10.0.0.1:80"},
        "VLLM_ENDPOINTS_METRICS_PORT",
    ),
    "no time": ({**CLUSTER, "VLLM_ENDPOINTS_DRAIN_SECONDS": "0"}, "VLLM_ENDPOINTS_DRAIN_SECONDS"),
    "no level": ({**CLUSTER, "VLLM_ENDPOINTS_LOG_LEVEL": "loud"}, "VLLM_ENDPOINTS_LOG_LEVEL"),
    "no name": ({**CLUSTER, "VLLM_ENDPOINTS_KEYRING_SECRET": "a b"}, "_KEYRING_SECRET"),
    "half a cluster": ({"VLLM_ENDPOINTS_RELEASE_NAMESPACE": "x"}, "ROOT_KEY_SECRET"),
    "nothing": ({}, "BACKEND_URL and API_KEYS"),
    "a file beside a backend": ({**STATIC, "VLLM_ENDPOINTS_CONFIG": "x"}, "BACKEND_URL"),
    "a key with a space": ({**STATIC, "API_KEYS": "sk-1,sk 2"}, "API_KEYS"),
    "no keys": ({"BACKEND_URL": "http://x"}, "API_KEYS"),
    "only commas": ({"BACKEND_URL": "http://x", "API_KEYS": ","}, "API_KEYS"),
    "no backend": ({"API_KEYS": "sk-1"}, "BACKEND_URL"),
    "TLS": ({**STATIC, "BACKEND_URL": "https://x"}, "BACKEND_URL"),
    "no scheme": ({**STATIC, "BACKEND_URL": "127.0.0.1:8000"}, "BACKEND_URL"),
    "a path": ({**STATIC, "BACKEND_URL": "http://x/api"}, "BACKEND_URL"),
    "a port that is no number": ({**STATIC, "BACKEND_URL": "http://x:http"}, "BACKEND_URL"),
    "a port that is none": ({**STATIC, "BACKEND_URL": "http://x:65536"}, "BACKEND_URL"),
    "port zero": ({**STATIC, "BACKEND_URL": "http://x:0"}, "BACKEND_URL"),
    "half an address": ({**STATIC, "BACKEND_URL": "http://[::1"}, "BACKEND_URL"),
    "a query": ({**STATIC, "BACKEND_URL": "http://x/?a=b"}, "BACKEND_URL"),
    "a fragment": ({**STATIC, "BACKEND_URL": "http://x/#a"}, "BACKEND_URL"),
    "a user": ({**STATIC, "BACKEND_URL": "http://me:sk-secret@x"}, "BACKEND_URL"),
    "no Redis": ({**STATIC, "VLLM_ENDPOINTS_LIMITS_REDIS_URL": "http://x"}, "LIMITS_REDIS_URL"),
    "a Redis nowhere": ({**STATIC, "VLLM_ENDPOINTS_LIMITS_REDIS_URL": "redis:"}, "REDIS_URL"),
    "a Redis with a port that is none": (
        {**STATIC, "VLLM_ENDPOINTS_LIMITS_REDIS_URL": "redis://x:port"},
        "LIMITS_REDIS_URL",
    ),
    "a Redis with a database that is none": (
        {**STATIC, "VLLM_ENDPOINTS_LIMITS_REDIS_URL": "redis://x/one"},
        "LIMITS_REDIS_URL",
    ),
    "two lines of a key": ({**STATIC, "BACKEND_API_KEY": "sk-1\nx: y"}, "BACKEND_API_KEY"),
}


@pytest.mark.parametrize(("environ", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(environ)


SAID = {
    "DRAIN_SECONDS": ("5m", "must be a whole number of seconds, such as 300"),
    "TOTAL_TIMEOUT_SECONDS": ("86401", "must be at most 86400"),
    "GATEWAY_PORT": ("http", "must be a whole number; set"),
    "MAX_BODY_BYTES": ("1", "must be at least 1024"),
    "LOG_LEVEL": ("loud", "must be 'debug', 'info', 'warning' or 'error'"),
    "CORS_ORIGINS": ("https://a.b/", r"must be SCHEME://HOST\[:PORT\] without a slash at the end"),
    "KEYRING_SECRET": ("a b", "must be lower-case letters, digits, dashes and dots"),
    "ROOT_KEY_SECRET": ("", "is not set"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_value_must_be_is_said_in_words(name: str) -> None:
    value, said = SAID[name]
    with pytest.raises(SettingsError, match=f"^VLLM_ENDPOINTS_{name}: {said}"):
        load_settings({**CLUSTER, f"VLLM_ENDPOINTS_{name}": value})


def test_what_keys_must_be_is_said_in_words() -> None:
    with pytest.raises(SettingsError, match=r"^API_KEYS: must be keys without spaces"):
        load_settings({**STATIC, "API_KEYS": "sk-1,sk 2"})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(
            {
                **CLUSTER,
                "VLLM_ENDPOINTS_GATEWAY_PORT": "x",
                "VLLM_ENDPOINTS_METRICS_PORT": "y",
            }
        )
    assert len(str(caught.value).splitlines()) == 2


def test_no_message_holds_a_key() -> None:
    for environ in (
        {"API_KEYS": "sk-secret", "BACKEND_URL": "https://x"},
        {**STATIC, "BACKEND_API_KEY": "sk-secret with a space"},
        {**STATIC, "API_KEYS": "sk-secret with a space"},
        {**STATIC, "BACKEND_URL": "http://me:sk-secret@x"},
        {**STATIC, "VLLM_ENDPOINTS_LIMITS_REDIS_URL": "http://me:sk-secret@x"},
        {**STATIC, "VLLM_ENDPOINTS_LIMITS_REDIS_URL": "redis://me:sk-secret@x:port"},
    ):
        with pytest.raises(SettingsError) as caught:
            load_settings(environ)
        assert "sk-secret" not in str(caught.value)


def test_settings_that_are_shown_hold_no_password() -> None:
    url = "rediss://me:sk-secret@redis.redis:6379/1"
    settings, _ = load_settings(
        {
            **CLUSTER,
            "VLLM_ENDPOINTS_LIMITS_REDIS_URL": url,
            "VLLM_ENDPOINTS_LIMITS_REDIS_PASSWORD": "sk-secret",
        }
    )
    assert settings.limits_redis_url.get_secret_value() == url
    assert "sk-secret" not in repr(settings)


def test_help_lists_every_variable() -> None:
    for name in Settings.model_fields:
        assert f"VLLM_ENDPOINTS_{name.upper()}\n" in describe()
    for name in StaticBackend.model_fields:
        assert f"  {name.upper()}\n" in describe()
    assert "  VLLM_ENDPOINTS_CONFIG\n" in describe()


def test_the_process_says_what_is_wrong_and_ends() -> None:
    process = start({})
    _, said = process.communicate()
    assert process.returncode == 2
    assert said.startswith(b"endpoint-gateway: VLLM_ENDPOINTS_RELEASE_NAMESPACE")
    assert b"Traceback" not in said
