"""GRPO on whole conversations: online, over several turns, with a simulated user.

In every step the model in the trainer's memory plays groups of conversations (`simkit.training.groups`). TRL turns
their rewards into advantages and learns from the sampled tokens. The tokens of users and tools are part of the sequence
but masked (`env_mask`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from simkit.plugins.extras import require
from simkit.statistics.scores import mean
from simkit.training.groups import PlayedBranch, TokenSequence, joined
from simkit.training.jobs import TrainingJob
from simkit.training.play import PracticeRequest, played
from simkit.training.process import Ask
from simkit.training.rows import TrainingRows, practice_format


def practice_rows(job: TrainingJob, args: Any, chat: ChatFormat) -> TrainingRows:
    """One row per task, repeated until they fill a step, because TRL drops incomplete batches.

    Raises:
        UsageError: groups would be divided among processes, or conversations would be sampled in another way.
    """
    assert job.practice is not None
    group, local = args.num_generations, args.per_device_train_batch_size * args.steps_per_generation
    if local % group:
        raise UsageError(
            f"each process plays {local} conversations a step (per_device_train_batch_size times "
            f"steps_per_generation), which are no whole groups of {group} (num_generations); choose a multiple"
        )
    if args.use_vllm:
        raise UsageError("use_vllm is not supported: conversations are played with the model in the trainer's memory")
    others = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
    if other := next((name for name, off in others.items() if getattr(args, name) != off), None):
        raise UsageError(f"conversations are sampled by their temperature alone; leave out {other}")
    if not args.temperature > 0:
        raise UsageError(f"the temperature is {args.temperature}; GRPO compares branches that differ: above 0")
    tasks = job.practice.chosen()
    rows = [{"prompt": task.id} for task in tasks] * ceil(args.generation_batch_size // group / len(tasks))
    return TrainingRows(tuple(rows), "whole conversations, played", practice_format(chat))


class GrpoPractice:
    """Plays the conversations that TRL's trainer requests in one process.

    Attributes:
        counted: numbers of conversations (`examples`), of their `tokens`, and of those that were sampled (`learned`).
    """

    def __init__(self, form: ChatFormat, ask: Ask) -> None:
        self.counted = dict.fromkeys(("examples", "tokens", "learned"), 0)
        self._form = form
        self._ask = ask

    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments of TRL's trainer: its rewards come from the conversations, in the field `episode_reward`."""
        return {"rollout_func": self.play, "reward_funcs": [_episode_reward]}

    def counts(self, args: Any) -> dict[str, int]:
        """Conversations and tokens of all processes."""
        own = self.counted
        found = [own] if args.world_size == 1 else require("accelerate", "train").utils.gather_object([own])
        return {name: sum(each[name] for each in found) for name in own}

    def play(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Implementation of `rollout_func`: one conversation per prompt, which names a task. A group is a block."""
        args = trainer.args
        asked = PracticeRequest(
            step=int(trainer.state.global_step),
            rank=int(args.process_index),
            tasks=tuple(prompts[:: args.num_generations]),
            size=args.num_generations,
            temperature=args.temperature,
        )
        model, end = trainer.accelerator.unwrap_model(trainer.model), int(self._form.tokenizer.eos_token_id)
        branches: Sequence[PlayedBranch] = played(asked, model, self._form, self._ask)
        sequences = [
            joined(one.replies) if one.replies else TokenSequence([end], [end], [0], [0.0]) for one in branches
        ]
        self.counted["examples"] += len(branches)
        self.counted["tokens"] += sum(len(sequence.prompt_ids) + len(sequence.ids) for sequence in sequences)
        self.counted["learned"] += sum(sum(sequence.mask) for sequence in sequences)
        trainer._metrics["train"]["drifted"].append(mean([float(sequence.drifted > 0) for sequence in sequences]))
        limit = args.max_completion_length
        return {
            "prompt_ids": [sequence.prompt_ids for sequence in sequences],
            "completion_ids": [sequence.ids[:limit] for sequence in sequences],
            "logprobs": [sequence.logprobs[:limit] for sequence in sequences],
            "env_mask": [sequence.mask[:limit] for sequence in sequences],
            "episode_reward": [one.reward for one in branches],
        }


def _episode_reward(episode_reward: Sequence[float | None], **_more: Any) -> list[float | None]:
    """The rewards of the episodes. None excludes a conversation from its group."""
    return list(episode_reward)
