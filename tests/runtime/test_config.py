"""Settings: who wins, and what a mistake says."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import ValidationError

from xpod_runtime.config import ServiceConfig, load_config, usage
from xpod_runtime.errors import ConfigError


class RouterConfig(ServiceConfig):
    kind: ClassVar[str] = "router"
    slots: int = 4
    verbose: bool = False


def test_flags_win_over_variables_and_those_over_defaults() -> None:
    environ = {"XPOD_POD": "env", "XPOD_SLOTS": "5", "XPOD_OTHER": "ignored", "POD": "no"}
    config = load_config(RouterConfig, ["--pod", "flag", "--port=8000", "--verbose"], environ)
    assert (config.pod, config.slots, config.port, config.verbose) == ("flag", 5, 8000, True)
    assert config.dtype == "auto"


def test_an_unnamed_member_gets_a_name_of_its_kind() -> None:
    first, second = (load_config(RouterConfig, [], {}) for _ in range(2))
    assert first.id.startswith("router-")
    assert first.id != second.id
    assert load_config(RouterConfig, ["--id", "r0"], {}).id == "r0"


def test_nats_urls() -> None:
    config = load_config(RouterConfig, ["--nats-url", "nats://a:1, nats://b:2"], {})
    assert config.nats_urls == ["nats://a:1", "nats://b:2"]


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--prot", "1"], {}, "unknown option --prot (did you mean --port?)"),
        (["--zzz"], {}, "unknown option --zzz"),
        (["pod"], {}, "unknown option pod"),
        (["--port"], {}, "option --port needs a value"),
        (["--port", "--pod", "x"], {}, "option --port needs a value"),
        (["--port", "abc"], {}, "bad value 'abc' for --port: Input should be a valid integer"),
        (
            [],
            {"XPOD_DTYPE": "int3"},
            "bad value 'int3' for XPOD_DTYPE: Input should be 'auto', 'bf16' or 'fp32'",
        ),
        (["--id", "a.b"], {}, "bad value 'a.b' for --id: String should match pattern"),
        (["--heartbeat", "0"], {}, "bad value '0' for --heartbeat: Input should be greater than 0"),
    ],
)
def test_a_mistake_is_one_line(argv: list[str], environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(RouterConfig, argv, environ)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_settings_are_frozen() -> None:
    config = load_config(RouterConfig, [], {})
    with pytest.raises(ValidationError):
        config.pod = "other"  # type: ignore[misc]


def test_usage_names_every_option() -> None:
    text = usage(RouterConfig)
    assert "--nats-url" in text
    assert "--slots" in text
    assert "[nats://127.0.0.1:4222]" in text
