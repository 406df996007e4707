"""Reads the `.env` file of the current folder, which may come from another person, and limits its effects.

An exported key is meant for the endpoint that its owner chose. A `.env` that redirects requests would send the key
elsewhere, so the combination is refused unless the file is trusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from simkit.cli.output import say
from simkit.errors import UsageError, reason

FLAG = "--trust-env-file"
URLS = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "SIMKIT_BASE_URL", "SIMKIT_USER_BASE_URL")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
TRACES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
TRACE_KEYS = (
    *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"),
)
KEY_NAMES = ("SIMKIT_API_KEY_ENV", "SIMKIT_USER_API_KEY_ENV")
"""Variables that name a variable with a key. A file may not choose which of your variables is sent as a key."""

MODELS = ("SIMKIT_MODEL", "SIMKIT_USER_MODEL")

TAKEN = frozenset({
    *URLS, *PROXIES, "NO_PROXY", *CERTIFICATES, *TRACES, *TRACE_KEYS, "OTEL_SERVICE_NAME",
    *("SIMKIT_STORE", "SIMKIT_SEED", "SIMKIT_CONCURRENCY", "SIMKIT_CACHE", "SIMKIT_DEBUG", "SIMKIT_SERVE_KEY"),
    *("OPENAI_ORG_ID", "HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
})  # fmt: skip
"""Accepted variables, besides keys (`..._API_KEY`) and those of the model options.

Others, such as PATH, PYTHONPATH or LD_PRELOAD, are never accepted.
"""

_KEY = re.compile(r"[A-Z0-9_]+_API_KEY")
_REFERENCE = re.compile(r"\$\{\w+\}")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Variables that a `.env` file added to the environment.

    Attributes:
        path: the file.
        values: the accepted variables, by name.
        exported: names that were already set.
    """

    path: Path
    values: Mapping[str, str]
    exported: frozenset[str]

    def check(
        self,
        *,
        trusted: bool,
        given: frozenset[str] = frozenset(),
        traces: bool = False,
        keys: frozenset[str] = frozenset(),
    ) -> None:
        """Report the destination of requests if the file sets it, and refuse to send keys there from elsewhere.

        Args:
            trusted: True if a flag declares the file as trusted.
            given: names of flags that override the file (`base_url`).
            traces: True if spans are sent.
            keys: variables that flags name as those that hold keys.

        Raises:
            UsageError: the file sets the destination of a key from elsewhere, or the code to run.
        """
        deciding = [name for name in self._deciding(given) if name in self.values]
        tracing = [name for name in TRACES if traces and name in self.values]
        if not trusted:
            named = {*KEYS, *keys, *(os.environ.get(name, "") for name in KEY_NAMES)}
            self._refuse(deciding, sorted(named & self.exported))
            self._refuse(tracing, [name for name in self.exported if name in TRACE_KEYS])
            self._refuse_code(given)
        if deciding or tracing:
            from simkit.models.transport.url import shown_url

            shown = ", ".join(f"{name}={shown_url(self.values[name])}" for name in (*deciding, *tracing))
            say(f"note: {self.path} decides where requests go: {shown}", err=True)

    def _deciding(self, given: frozenset[str]) -> list[str]:
        """The variables that set the destination of model calls and that no flag overrides."""
        flags = {"SIMKIT_USER_BASE_URL": "user_base_url"}
        proxies = [name for name in self.values if name.upper() in PROXIES]
        return [*(name for name in URLS if flags.get(name, "base_url") not in given), *proxies, *CERTIFICATES]

    def _refuse(self, deciding: list[str], keys: list[str]) -> None:
        if deciding and keys:
            raise UsageError(
                f"{self.path} says where requests go ({', '.join(deciding)}), but {', '.join(keys)} comes from the "
                f"environment: the key would be sent to a place that its owner may not know. Put the key into "
                f"{self.path} too, give the place on the command line, or allow it with {FLAG}"
            )

    def _refuse_code(self, given: frozenset[str]) -> None:
        from simkit.models.provider import names_code

        code = [
            name
            for name in MODELS
            if name.removeprefix("SIMKIT_").lower() not in given
            and name in self.values
            and names_code(self.values[name])
        ]
        if code:
            raise UsageError(
                f"{self.path} names code to run as a model ({code[0]}={self.values[code[0]]}); give it as a flag, or "
                f"allow it with {FLAG}"
            )


def read_env_file(path: Path) -> EnvFile:
    """Add the accepted variables of a `.env` to this process's environment; existing values take precedence.

    Only the command line does this, because a library must not change its process's environment. Values are used as
    written, without references to other variables, because the file must not send the values of others anywhere.

    Raises:
        UsageError: the file cannot be read, or a value refers to another variable.
    """
    exported = frozenset(os.environ)
    if not path.is_file():
        return EnvFile(path, {}, exported)
    taken = TAKEN.union(_model_variables())
    known = {name: value for name, value in _parsed(path).items() if value is not None and _is_taken(name, taken)}
    values = {name: value for name, value in known.items() if not _is_set(name, exported)}
    for name, value in values.items():
        if _REFERENCE.search(value) and not _KEY.fullmatch(name):
            raise UsageError(f"{path} sets {name} with a reference to another variable ({value}); write the value out")
    os.environ.update(values)
    return EnvFile(path, values, exported)


def _parsed(path: Path) -> dict[str, str | None]:
    from dotenv import dotenv_values

    try:
        return dotenv_values(path, interpolate=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}; correct it or move it away") from error


def _model_variables() -> Iterator[str]:
    from simkit.models.config import ModelConfig, variable_of

    return (name for field, _, _ in ModelConfig.flags() if (name := variable_of(field)) not in KEY_NAMES)


def _is_taken(name: str, taken: Set[str]) -> bool:
    return name in taken or name.upper() in (*PROXIES, "NO_PROXY") or _KEY.fullmatch(name) is not None


def _is_set(name: str, exported: frozenset[str]) -> bool:
    """Whether the environment has the variable; for proxies in any case, because lower case takes precedence."""
    if name.upper() in (*PROXIES, "NO_PROXY"):
        return name.upper() in exported or name.lower() in exported
    return name in exported
