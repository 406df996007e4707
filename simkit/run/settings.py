"""Settings of all commands in the environment: `SIMKIT_STORE`, `SIMKIT_SEED`, `SIMKIT_CONCURRENCY`,
`SIMKIT_WORKERS`, `SIMKIT_ENGINE`, `SIMKIT_WORKER_VARIABLES`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from simkit.errors import UsageError


class Settings(BaseSettings):
    """Defaults of every run; arguments and flags override them.

    Attributes:
        store: folder for results.
        concurrency: number of episodes played at once.
        workers: processes that play the episodes; `auto` depends on the cores and the concurrency.
        engine: what starts them: `processes`, `ray` or `ray=ADDRESS`.
        worker_variables: names of environment variables that workers of a cluster get too, separated by commas.
        seed: seed that all randomness in a run is derived from.
    """

    model_config = SettingsConfigDict(env_prefix="SIMKIT_", frozen=True, extra="ignore")

    store: Path = Path("simkit-store")
    concurrency: Annotated[int, Field(ge=1)] = 16
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    engine: str = "processes"
    worker_variables: str = ""
    seed: int = 0


def read_settings() -> Settings:
    """Settings from this process's environment.

    Raises:
        UsageError: a variable has an invalid value; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"SIMKIT_{str(problem['loc'][0]).upper()}={problem.get('input')}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise UsageError(
            "the environment has a setting that cannot be used: " + "; ".join(dict.fromkeys(lines))
        ) from error
