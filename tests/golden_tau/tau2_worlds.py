"""The worlds of tau2-bench over its raw data; schemas and prompts of agents and users come from the recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tau_recordings import Recording, raw_tau2, read_recordings

from simkit.tools.tau2 import AirlineWorld, MockWorld, RetailWorld, TelecomWorld
from simkit.tools.tau2.cache import prepare
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.world import Tau2Domain
from support.tau2_clone import model_source, prompt_sources, release_of, tool_source, write_clone

WORLDS: Final[dict[DomainName, type[Tau2Domain]]] = {
    "retail": RetailWorld,
    "airline": AirlineWorld,
    "mock": MockWorld,
    "telecom": TelecomWorld,
}
SMALL_SETS: Final = ("tasks_small.json", "tasks_voice.json")


def recorded_schemas() -> dict[str, Recording]:
    """The tools of each domain as they are sent to models."""
    (schemas,) = read_recordings("tau2_schemas.json.gz")
    return schemas


def recorded_prompts() -> dict[str, Recording]:
    """Rendered prompts of each domain and mode."""
    (prompts,) = read_recordings("tau2_prompts.json.gz")
    return prompts


def build_cache(folder: Path, greeting: str = "Good day!") -> Path:
    """Build the cache below a folder, with a greeting of agents; skips the test without raw data or recordings."""
    contents = {
        path.removeprefix("tau2/"): content
        for path, content in raw_tau2().items()
        if path.startswith("tau2/") and not path.endswith(SMALL_SETS)
    }
    schemas = recorded_schemas()
    for domain in WORLDS:
        both = [*schemas[domain]["assistant"], *(schemas[domain]["user"] or ())]
        contents[f"domains/{domain}/data_model.py"] = model_source(both)
        contents[f"domains/{domain}/tools.py"] = tool_source(schemas[domain]["assistant"])
        if schemas[domain]["user"]:
            contents[f"domains/{domain}/user_tools.py"] = tool_source(schemas[domain]["user"])
    contents |= prompt_sources(**_templates(), greeting=greeting)
    clone = write_clone(folder / "clone", contents)
    return prepare(folder / "cache", clone, releases=(release_of(contents),))


def _templates() -> dict[str, Any]:
    """The release's templates, taken back from prompts that it rendered."""
    prompts = recorded_prompts()
    retail, solo = prompts["retail"], prompts["telecom/solo"]
    agent = _escaped(retail["agent_system"]).replace(_escaped(retail["policy"]), "{domain_policy}")
    alone = _escaped(next(iter(solo["solo_system"].values()))).replace(_escaped(solo["policy"]), "{domain_policy}")
    head, _, ticket = alone.partition("<ticket>\n")
    return {"agent": agent, "solo": f"{head}<ticket>\n{{ticket}}\n{ticket.rpartition(chr(10))[2]}"}


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
