"""The promises of a provider, checked with pytest: `pip install pytest examples/echo-model`, then `pytest` here."""

import anyio
from simkit_echo_model import EchoProvider

from simkit.models.config import ModelConfig
from simkit.testing import check_provider


def test_the_provider_keeps_the_contract() -> None:
    """Every promise holds; a broken one is named."""

    async def check() -> None:
        await check_provider(lambda: EchoProvider("echo/Yes", ModelConfig()), deterministic=True)

    anyio.run(check)
