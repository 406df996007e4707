"""What a user sets once for all commands, in the environment: `SIMKIT_STORE`, `SIMKIT_SEED`, `SIMKIT_MODEL`, ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from simkit.errors import UsageError
from simkit.models.config import ModelChoices

S = TypeVar("S", bound=BaseSettings)


class Settings(BaseSettings):
    """Defaults of every run; an argument or a flag wins over them.

    Attributes:
        store: the folder that results go to.
        concurrency: episodes played at once.
        seed: the seed everything random in a run is derived from.
    """

    model_config = SettingsConfigDict(env_prefix="SIMKIT_", frozen=True, extra="ignore")

    store: Path = Path("simkit-store")
    concurrency: Annotated[int, Field(ge=1)] = 16
    seed: int = 0


class ModelSettings(ModelChoices, BaseSettings):
    """The model choices of the environment: `SIMKIT_MODEL`, `SIMKIT_BASE_URL`, `SIMKIT_MAX_COST`, ..."""

    model_config = SettingsConfigDict(env_prefix="SIMKIT_", frozen=True, extra="ignore", env_ignore_empty=True)


def read_settings() -> Settings:
    """The settings of this process's environment.

    Raises:
        UsageError: a variable has a value that cannot be used; the message names it.
    """
    return _read(Settings)


def read_model_settings() -> ModelChoices:
    """The model choices of this process's environment.

    Raises:
        UsageError: a variable has a value that cannot be used; the message names it.
    """
    return ModelChoices.model_validate(_read(ModelSettings).chosen())


def _read(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        lines = [
            f"SIMKIT_{str(problem['loc'][0]).upper()}={problem.get('input')}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise UsageError(
            "the environment has a setting that cannot be used: " + "; ".join(dict.fromkeys(lines))
        ) from error
