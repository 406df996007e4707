"""Recordings of tau2-bench over the raw data of its release 1.0: tables, tasks and environments by domain."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from typing import Any

from tau_recordings import raw_tau2

from simkit.tools.tau2.domains import HIDDEN
from simkit.tools.tau2.layout import DomainName, Tables, arranged_tables


def domain_file(domain: DomainName, name: str) -> Any:
    """A JSON or TOML file of a domain; empty if there is none. Skips the test without raw data."""
    content = raw_tau2().get(f"tau2/domains/{domain}/{name}", b"{}")
    return tomllib.loads(content.decode()) if name.endswith(".toml") and content != b"{}" else json.loads(content)


@cache
def tables(domain: DomainName) -> Tables:
    """The tables of a domain."""
    ending = "toml" if domain == "telecom" else "json"
    found = arranged_tables(domain, domain_file(domain, f"db.{ending}"), domain_file(domain, f"user_db.{ending}"))
    return {**found, **HIDDEN.get(domain, {})}


@cache
def tasks(domain: DomainName) -> dict[str, Any]:
    """The tasks of a domain by id, those of its small file included."""
    files = ("tasks.json", "tasks_small.json")
    return {task["id"]: task for name in reversed(files) for task in domain_file(domain, name)}


def masked(text: str) -> str:
    """A text without what depends on the version of pydantic."""
    return re.sub(r"errors\.pydantic\.dev/[0-9.]+/", "errors.pydantic.dev/", text)
