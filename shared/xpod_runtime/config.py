"""Settings of a service process: flags win over `XPOD_*` variables, which win over defaults.

Knows: the settings that all services share, and how to read flags and variables into a frozen object.
Does not know: what a service does with them; each subclasses `ServiceConfig` for its own.
"""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xpod_runtime.errors import ConfigError
from xpod_runtime.exposition import NOWHERE

PREFIX = "XPOD_"
TOKEN = r"^[A-Za-z0-9_-]{1,64}$"
C = TypeVar("C", bound="ServiceConfig")


class ServiceConfig(BaseModel):
    """What every service is told. Sizes in bytes, times in seconds. Subclasses set `kind`."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    kind: ClassVar[str] = "member"

    pod: Annotated[str, Field(pattern=TOKEN, description="name of the pod")] = "xpod"
    id: Annotated[
        str, Field(pattern=TOKEN, description="this member's name (default: kind and a random tail)")
    ]
    nats_url: Annotated[str, Field(min_length=1, description="NATS servers, with commas")] = (
        "nats://127.0.0.1:4222"
    )
    credentials: Annotated[str, Field(description="directory of this member's NKey (nats.nk) and ca.pem")] = (
        ""
    )
    model: Annotated[str, Field(description="checkpoint directory")] = ""
    dtype: Annotated[Literal["auto", "bf16", "fp32"], Field(description="weights' type")] = "auto"
    device: Annotated[str, Field(description="torch device")] = "cpu"
    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on, 0 for a free one")] = 0
    metrics_port: Annotated[
        int, Field(ge=NOWHERE, le=65535, description="port of /metrics, 0 for a free one, -1 for none")
    ] = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    heartbeat: Annotated[float, Field(gt=0, description="seconds between heartbeats")] = 1.0
    data: Annotated[Path, Field(description="directory for all that is kept")] = Path(".xpod")
    frames: Annotated[str, Field(description="directory in memory, shared by the processes of a host")] = ""
    threads: Annotated[int, Field(ge=1, description="compute threads")] = 1
    mailbox: Annotated[int, Field(ge=1, description="messages handled at once, more are refused")] = 4096
    drain: Annotated[float, Field(ge=0, description="seconds to finish work after SIGTERM")] = 10.0
    trace: Annotated[
        float, Field(ge=0, le=1, description="part of the requests that are traced in detail, and exported")
    ] = 0.05
    trace_steps: Annotated[
        int, Field(ge=1, description="of a sequence traced in detail, one step in so many is looked into")
    ] = 32
    trace_spans: Annotated[int, Field(ge=0, description="spans that a member keeps, 0: it makes none")] = 4096

    @model_validator(mode="before")
    @classmethod
    def _name_the_member(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("id"):
            return {**values, "id": f"{cls.kind}-{secrets.token_hex(3)}"}
        return values

    @property
    def nats_urls(self) -> list[str]:
        """The servers in order of preference; all members prefer the first."""
        return [url.strip() for url in self.nats_url.split(",") if url.strip()]


def load_config(cls: type[C], argv: Sequence[str], environ: Mapping[str, str]) -> C:
    """Reads `--option value` (or `--option=value`) and `XPOD_OPTION`. Raises ConfigError, one line."""
    flags = _flags(cls, argv)
    variables = {
        name: environ[variable] for name in cls.model_fields if (variable := PREFIX + name.upper()) in environ
    }
    try:
        return cls.model_validate({**variables, **flags})
    except ValidationError as error:
        raise ConfigError(_one_line(error, flags)) from None


def usage(cls: type[ServiceConfig]) -> str:
    """One line an option, for --help."""
    lines = [f"xpod {cls.kind}: every option also reads {PREFIX}<OPTION>", ""]
    for name, field in cls.model_fields.items():
        default = "" if field.is_required() else f" [{field.default}]"
        lines.append(f"  {_option(name):<18} {field.description or name.replace('_', ' ')}{default}")
    return "\n".join(lines)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flags(cls: type[ServiceConfig], argv: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    rest = list(argv)
    while rest:
        option, joined, value = rest.pop(0).partition("=")
        name = _field_of(cls, option)
        if not joined:
            value = _value_of(cls, name, option, rest)
        given[name] = value
    return given


def _field_of(cls: type[ServiceConfig], option: str) -> str:
    name = option.removeprefix("--").replace("-", "_")
    if option.startswith("--") and name in cls.model_fields:
        return name
    near = difflib.get_close_matches(option, [_option(each) for each in cls.model_fields], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ConfigError(f"unknown option {option}{hint}")


def _value_of(cls: type[ServiceConfig], name: str, option: str, rest: list[str]) -> str:
    alone = not rest or rest[0].startswith("--")
    if alone and cls.model_fields[name].annotation is bool:
        return "true"
    if alone:
        raise ConfigError(f"option {option} needs a value")
    return rest.pop(0)


def _one_line(error: ValidationError, flags: Mapping[str, str]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    source = _option(name) if name in flags else PREFIX + name.upper()
    reason = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    return f"bad value {first['input']!r} for {source}: {reason}"
