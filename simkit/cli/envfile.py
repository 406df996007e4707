"""Reads the `.env` file of the current folder, which may be another person's, and limits what it may decide.

An exported key is meant for the endpoint its owner knows. A `.env` that redirects requests would receive that key, so
the combination is refused unless the file is trusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from simkit.cli.output import say
from simkit.errors import UsageError

FLAG = "--trust-env-file"
URLS = ("OPENAI_BASE_URL", "SIMKIT_BASE_URL", "SIMKIT_USER_BASE_URL")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
TRACES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
TRACE_KEYS = (
    *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"),
)
MODELS = ("SIMKIT_MODEL", "SIMKIT_USER_MODEL")

TAKEN = frozenset({
    *URLS, *PROXIES, "NO_PROXY", *CERTIFICATES, *TRACES, *TRACE_KEYS, "OTEL_SERVICE_NAME",
    *("SIMKIT_STORE", "SIMKIT_SEED", "SIMKIT_CONCURRENCY", "SIMKIT_CACHE", "SIMKIT_DEBUG", "SIMKIT_SERVE_KEY"),
    *("OPENAI_ORG_ID", "HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
})  # fmt: skip
"""Variables that are taken, besides keys (`..._API_KEY`) and those of the model options.

Others, like PATH, PYTHONPATH or LD_PRELOAD, never are.
"""

_KEY = re.compile(r"[A-Z0-9_]+_API_KEY")
_REFERENCE = re.compile(r"\$\{\w+\}")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Variables that a `.env` file added to the environment.

    Attributes:
        path: the file.
        values: the variables that were taken from it, by name.
        exported: the names that were set already.
    """

    path: Path
    values: Mapping[str, str]
    exported: frozenset[str]

    def check(self, *, trusted: bool, given: frozenset[str] = frozenset(), traces: bool = False) -> None:
        """Report where requests go if the file decides it, and refuse to send a key there that is not in the file.

        Args:
            trusted: whether the file was trusted with a flag.
            given: flags that win over the file, by name (`base_url`).
            traces: whether spans are sent.

        Raises:
            UsageError: the file decides where a key from elsewhere would go, or which code is run.
        """
        deciding = [name for name in self._deciding(given) if name in self.values]
        tracing = [name for name in TRACES if traces and name in self.values]
        if not trusted:
            self._refuse(deciding, [name for name in self.exported if name == "OPENAI_API_KEY"])
            self._refuse(tracing, [name for name in self.exported if name in TRACE_KEYS])
            self._refuse_code(given)
        if deciding or tracing:
            from simkit.models.transport.url import shown_url

            shown = ", ".join(f"{name}={shown_url(self.values[name])}" for name in (*deciding, *tracing))
            say(f"note: {self.path} decides where requests go: {shown}", err=True)

    def _deciding(self, given: frozenset[str]) -> list[str]:
        """The variables that say where model calls go and that no flag overrides."""
        base = "base_url" in given
        over = {"OPENAI_BASE_URL": base, "SIMKIT_BASE_URL": base, "SIMKIT_USER_BASE_URL": "user_base_url" in given}
        proxies = [name for name in self.values if name.upper() in PROXIES]
        return [*(name for name in URLS if not over[name]), *proxies, *CERTIFICATES]

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
    """Take the known variables of a `.env` into this process's environment; those that are set already win.

    Only the command line does this: a library must not change its process's environment. Values are taken as they are
    written: nothing in them is replaced by other variables, whose values are not the file's to send anywhere.

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
        raise UsageError(f"{path} cannot be read: {error}; correct it or move it away") from error


def _model_variables() -> Iterator[str]:
    from simkit.models.config import ModelConfig, variable_of

    return (variable_of(name) for name, _, _ in ModelConfig.flags())


def _is_taken(name: str, taken: Set[str]) -> bool:
    return name in taken or name.upper() in (*PROXIES, "NO_PROXY") or _KEY.fullmatch(name) is not None


def _is_set(name: str, exported: frozenset[str]) -> bool:
    """Whether the environment has it; of proxies in whatever case, since one in lower case wins over the other."""
    if name.upper() in (*PROXIES, "NO_PROXY"):
        return name.upper() in exported or name.lower() in exported
    return name in exported
