"""Worlds, casts and models of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from simkit.components.agent import Agent
from simkit.components.cast import Cast
from simkit.components.reward import Reward
from simkit.components.tools import ToolServer
from simkit.components.user import User
from simkit.components.world import World, choose_tasks, load_world
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.run.cast_spec import CastOrigin, WorldSpec, file_digests
from simkit.run.casting import CastRequest, ModelRequest, build_players, choose_agent, needed_models
from simkit.run.contract import Engine
from simkit.run.driven import DrivenPlay
from simkit.run.engine import PlayContext
from simkit.run.lifetime import Lifetime
from simkit.run.processes import Processes, number_of_workers

if TYPE_CHECKING:
    from simkit.models.base import ChatModel


class RunCasts(Lifetime):
    """What a run builds by name: worlds, casts and models."""

    def world(self, world: str | World = "builtin", **options: Any) -> World:
        """Load a world by name; a world object is returned unchanged. Options with the value None are omitted.

        Raises:
            ComponentNotFound: no world of that name.
            UsageError: the world does not accept these options.
        """
        if not isinstance(world, str):
            return world
        folder = self.folders.of(world)
        found = load_world(world, folder, **options)
        self._worlds.append((found, WorldSpec(world, options, folder)))
        return found

    def tasks(self, world: World, split: str, choice: str | int = "all") -> Sequence[Task]:
        """The tasks of a split that `choice` names; see `choose_tasks`."""
        return choose_tasks(world.tasks(world.check_split(split)), choice)

    def cast(
        self,
        world: World,
        *,
        agent: str | Agent | None = None,
        user: str | User | None = None,
        reward: str | Reward | None = None,
        tools: ToolServer | None = None,
        model: str | None = None,
        user_model: str | None = None,
        options: ModelConfig | None = None,
        user_options: ModelConfig | None = None,
        judge_model: str | None = None,
        judge_options: ModelConfig | None = None,
    ) -> Cast:
        """Start the actors of a simulation, given by name, as objects, or as None for the world's default.

        An agent or user whose constructor takes `model` gets the model named for it: the one given here, else the
        run's (`Run(models=...)`, `--model`, SIMKIT_MODEL). A user without a model of its own gets the agent's. If a
        model is named but no agent (or user), it plays the world's default if that takes a model, otherwise
        `function_calling` (or `goal`). A model that cannot be given tools plays `react` instead of
        `function_calling`, which a note of the run says.

        A model in this process is loaded in the event loop, which takes seconds; `open_cast` loads it in a thread.

        Args:
            model, user_model: `openai/NAME`, `scripted/TEXT` or `path/to/file.py:Class`.
            options, user_options: defaults for the agent's and the user's model; the run's configuration overrides
                them. `user_options` defaults to `options`.
            judge_model: the model that the reward asks, as an argument `judge` of its constructor; None for no judge.
            judge_options: its endpoint and sampling; None for the run's own, at the temperature 0.

        Raises:
            ComponentNotFound: no component of that name.
            UsageError: a component does not accept its options or lacks a model, no component uses a named model, or
                the run has not been entered.
        """
        wanted = CastRequest(agent=agent, user=user, reward=reward, tools=tools, folders=self.folders)
        requested = self._requested(model, user_model, options, user_options, judge_model, judge_options)
        return self._cast(world, wanted, requested)

    def _cast(self, world: World, wanted: CastRequest, requested: ModelRequest) -> Cast:
        scope = self._actors
        players = build_players(world, wanted, requested)
        if players.user.interactive and self._background is not None:
            self._background.give_the_terminal()
        self._say_what_is_uncounted(players.agent)
        cast = players.cast(scope, world.check_task, idle=self._engine_for_play() is not None)
        known = next((spec for loaded, spec in self._worlds if loaded is world), None)
        interactive = players.user.interactive
        digests = file_digests(wanted, known, requested.config, requested.judge)
        origin = CastOrigin(world, known, wanted, requested, interactive=interactive, digests=digests)
        self._casts.append((cast, origin))
        return cast

    def _say_what_is_uncounted(self, agent: Agent) -> None:
        """Note that the run's budget does not hold for all that an agent uses."""
        if agent.uncounted and self.models.allowances(self._allowances).bounded:
            self._notes.append(f"the budget of this run does not hold for its agent `{agent.name}`: {agent.uncounted}")

    async def open_cast(
        self,
        world: World,
        *,
        agent: str | Agent | None = None,
        user: str | User | None = None,
        reward: str | Reward | None = None,
        tools: ToolServer | None = None,
        model: str | None = None,
        user_model: str | None = None,
        options: ModelConfig | None = None,
        user_options: ModelConfig | None = None,
        judge_model: str | None = None,
        judge_options: ModelConfig | None = None,
    ) -> Cast:
        """Like `cast`, but models in this process are loaded in a thread, so that the event loop is never blocked.

        If it is cancelled while a model is loaded, it ends at once, and the run is `abandoned`: the thread goes on.
        """
        wanted = CastRequest(agent=agent, user=user, reward=reward, tools=tools, folders=self.folders)
        requested = self._requested(model, user_model, options, user_options, judge_model, judge_options)
        for spec, config in needed_models(world, wanted, requested):
            await self._load(spec, config)
        return self._cast(world, wanted, requested)

    def _engine_for_play(self) -> Engine | None:
        """The engine of workers; None if this process plays."""
        if self._engine is not None:
            return self._engine
        workers = number_of_workers(self.workers, self.concurrency)
        return None if workers == 1 else Processes(workers)

    def _driven(self, context: PlayContext) -> DrivenPlay:
        """A play for workers.

        Raises:
            UsageError: the cast was not made by this run, or cannot be sent to workers.
        """
        origin = next((origin for cast, origin in self._casts if cast is context.cast), None)
        if origin is None:
            raise UsageError("with workers, play a cast that `run.cast` or `run.open_cast` of this run has made")
        return DrivenPlay(
            context=context,
            origin=origin,
            run_id=self.id,
            models=self._models,
            allowances=self.models.allowances(self._allowances),
            ask_limits=self._ask_limits,
            recorder=self._journal,
            store=self.store.path,
            recorded=self._origin.recorded_calls(self._earlier, self._replayed),
        )

    def _requested(
        self,
        model: str | None,
        user_model: str | None,
        options: ModelConfig | None,
        user_options: ModelConfig | None,
        judge_model: str | None,
        judge_options: ModelConfig | None,
    ) -> ModelRequest:
        """The models of a cast: those named for it, else the run's."""
        named = {"model": model, "user_model": user_model}
        config = self.models.model_copy(update={name: spec for name, spec in named.items() if spec is not None})
        return ModelRequest(
            config=config,
            open=self._model,
            defaults=options,
            user_defaults=user_options,
            judge=judge_model,
            judge_config=judge_options,
            agent=lambda agent, chosen: choose_agent(self._opened_models(), self._notes.append, agent, chosen),
        )

    async def open_chat_model(self, spec: str, config: ModelConfig | None = None) -> ChatModel:
        """Like `chat_model`, but a model in this process is loaded in a thread; see `open_cast`."""
        await self._load(spec, self.models if config is None else config)
        return self.chat_model(spec, config)

    async def _load(self, spec: str, config: ModelConfig) -> None:
        """Load a model of this run in a thread."""
        try:
            await self._opened_models().load(self.folders.absolute(spec), config)
        except anyio.get_cancelled_exc_class():
            self.abandoned = True
            raise

    def chat_model(self, spec: str, config: ModelConfig | None = None) -> ChatModel:
        """A model for direct calls by a recipe: recorded, within the run's budget, and never called twice for the same
        request when the run is resumed.

        Args:
            spec: as in `--model`.
            config: endpoint, sampling and limits; None for the run's own.

        Raises:
            UsageError: the name, the configuration or the environment is invalid, or the run has not been entered.
        """
        return self._model(spec, self.models if config is None else config)
