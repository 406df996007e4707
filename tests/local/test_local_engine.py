"""Batched generation gives what transformers gives, whoever else is in the batch."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simkit.errors import BadRequest, ContextTooLong, UsageError
from simkit.local import batch, packed, weights
from simkit.local.engine import LocalEngine
from simkit.local.forward import LlamaForward, attention_kernels, cache_name
from simkit.local.memory import looked_at
from simkit.local.packed import weights_of
from simkit.local.weights import EngineOptions
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require
from support.tiny_llama import (
    greedy_of_transformers,
    prompts,
    tiny_engine,
    tiny_model,
    tiny_tokenizer,
)

GREEDY = Sampling(temperature=0, max_tokens=12)


def older_names(model: Any) -> Any:
    """A model with code of its own, written before transformers called the cache `cache`."""
    torch = require("torch", "local")
    inner, name = model, cache_name(model)

    class Older(torch.nn.Module):
        config, generation_config, dtype = inner.config, inner.generation_config, inner.dtype

        def get_input_embeddings(self) -> Any:
            return inner.get_input_embeddings()

        def forward(
            self,
            input_ids: Any,
            attention_mask: Any = None,
            position_ids: Any = None,
            past_key_values: Any = None,
            use_cache: bool = True,
            logits_to_keep: int = 0,
        ) -> Any:
            asked = {"attention_mask": attention_mask, "position_ids": position_ids, "logits_to_keep": logits_to_keep}
            out = inner(input_ids=input_ids, use_cache=use_cache, **asked, **{name: past_key_values})
            return SimpleNamespace(logits=out.logits, past_key_values=out[name])

    return Older().eval()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt2", "phi3"])
def test_the_likeliest_tokens_are_those_of_transformers(kind: str) -> None:
    engine = tiny_engine(kind, head_dim=8) if kind in ("qwen3", "gemma2") else tiny_engine(kind)
    asked = prompts(engine)
    expected = [greedy_of_transformers(engine.model, prompt, 12) for prompt in asked]
    assert [made.ids for made in engine.generate(asked, GREEDY)] == expected
    again = engine.generate(asked, GREEDY)
    assert [made.ids for made in again] == expected
    assert all(made.cached >= len(prompt) - 17 for made, prompt in zip(again, asked, strict=True))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"num_key_value_heads": 4},
        {"attention_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": False, "head_dim": 16},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
    ],
)
def test_our_llama_is_that_of_transformers(more: dict[str, Any]) -> None:
    torch = require("torch", "local")
    engine = tiny_engine(**more)
    assert LlamaForward.fits(engine.model)
    asked = prompts(engine)
    for prompt, made in zip(asked, engine.generate(asked, Sampling(max_tokens=8)), strict=True):
        with torch.inference_mode():
            logits = engine.model(torch.tensor([prompt + made.ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits, -1)[range(len(made.ids)), made.ids]
        assert made.logprobs == pytest.approx(expected.tolist(), abs=2e-4)


def test_models_that_are_no_plain_llama_run_as_their_library_runs_them() -> None:
    tokenizer = tiny_tokenizer()
    assert LlamaForward.fits(tiny_model(tokenizer, "qwen2"))
    assert not LlamaForward.fits(tiny_model(tokenizer, "gpt2"))
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert not LlamaForward.fits(tiny_model(tokenizer, rope_parameters=dynamic))
    adapted = tiny_model(tokenizer)
    adapted.model.layers[1].mlp.up_proj = require("torch", "local").nn.Sequential(adapted.model.layers[1].mlp.up_proj)
    assert not LlamaForward.fits(adapted)
    engine = LocalEngine(adapted, tokenizer)
    plain = tiny_engine()
    assert [made.ids for made in engine.generate(prompts(engine), GREEDY)] == [
        made.ids for made in plain.generate(prompts(plain), GREEDY)
    ]


def test_a_model_that_calls_its_cache_by_the_old_name_is_given_it_by_that_name() -> None:
    engine = tiny_engine("qwen2")
    asked = prompts(engine)
    renamed = LocalEngine(older_names(engine.model), tiny_tokenizer())
    assert cache_name(renamed.model) == "past_key_values"
    assert [made.ids for made in renamed.generate(asked, GREEDY)] == [
        made.ids for made in engine.generate(asked, GREEDY)
    ]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's, of transformers
def test_a_model_with_adapters_takes_its_cache_as_the_model_within_does() -> None:
    pytest.importorskip("peft")
    tokenizer = tiny_tokenizer()
    plain, peft = tiny_engine("qwen2"), require("peft", "train")
    adapted = peft.get_peft_model(tiny_model(tokenizer, "qwen2"), peft.LoraConfig(task_type="CAUSAL_LM"))
    assert cache_name(adapted) == cache_name(plain.model)
    engine = LocalEngine(adapted, tokenizer)  # new adapters change nothing before they are trained
    assert [made.ids for made in engine.generate(prompts(engine), GREEDY)] == [
        made.ids for made in plain.generate(prompts(plain), GREEDY)
    ]


def test_a_reply_depends_on_its_seed_and_not_on_its_company(engine: LocalEngine) -> None:
    asked = prompts(engine)
    sampling = Sampling(max_tokens=30, top_p=0.95)
    together = engine.generate(asked, sampling, [7] * len(asked))
    engine.weights_changed()  # forgets what it has read
    alone = [engine.generate([prompt], sampling, [7])[0] for prompt in asked]
    assert [made.ids for made in together] == [made.ids for made in alone]
    small = tiny_engine(options=EngineOptions(max_batch=3, memory=2e-4))
    assert [made.ids for made in small.generate(asked, sampling, [7] * len(asked))] == [made.ids for made in alone]
    assert engine.generate(asked[:1], sampling, [8])[0].ids != alone[0].ids


def test_tokens_come_as_often_as_the_model_says(engine: LocalEngine) -> None:
    torch = require("torch", "local")
    prompt, count = prompts(engine)[0], 3000
    made = engine.generate([prompt] * count, Sampling(max_tokens=1, temperature=0.5), range(count))
    found = Counter(each.ids[0] for each in made)
    with torch.inference_mode():
        expected = torch.softmax(engine.model(torch.tensor([prompt])).logits[0, -1] / 0.5, -1).tolist()
    for token, chance in enumerate(expected):
        assert abs(found[token] - count * chance) <= 5 * math.sqrt(count * chance * (1 - chance)) + 1


def test_top_p_keeps_the_likeliest(engine: LocalEngine) -> None:
    prompt = prompts(engine)[0]
    (greedy,) = engine.generate([prompt], GREEDY)
    found = engine.generate([prompt] * 5, Sampling(top_p=1e-6, max_tokens=12))
    assert [made.ids for made in found] == [greedy.ids] * 5


def test_rows_of_one_batch_keep_their_own_choices(engine: LocalEngine) -> None:
    prompt = prompts(engine)[2]
    choices = [GREEDY, Sampling(max_tokens=5), Sampling(top_p=0.5, max_tokens=9), Sampling(max_tokens=1)]
    alone = [engine.generate([prompt], each, [3])[0].ids for each in choices]
    assert [made.ids for made in engine.generate([prompt] * 4, choices, [3] * 4)] == alone


def test_penalties_keep_words_from_coming_back(engine: LocalEngine) -> None:
    prompt = prompts(engine)[0]
    for penalty in (Sampling(frequency_penalty=2, max_tokens=60), Sampling(presence_penalty=2, max_tokens=60)):
        with_it, without = (
            sum(len(set(made.ids)) / len(made.ids) for made in engine.generate([prompt] * 20, each))
            for each in (penalty, Sampling(max_tokens=60))
        )
        assert with_it > without


def test_a_stop_text_ends_the_reply_before_it(engine: LocalEngine) -> None:
    prompt = prompts(engine)[0]
    (free,) = engine.generate([prompt], Sampling(max_tokens=40), [1])
    text = engine.chat.text(free.ids)
    stop = text[10:13]
    (made,) = engine.generate([prompt], Sampling(max_tokens=40, stop=(stop, "nowhere")), [1])
    assert made.finish == "stop"
    assert made.text == text[: text.index(stop)]
    assert free.ids[: len(made.ids)] == made.ids


def test_room_and_ends(engine: LocalEngine) -> None:
    asked = prompts(engine)
    for made in engine.generate(asked, Sampling(max_tokens=25)):
        assert (made.finish == "stop") == (made.ids[-1] in engine.chat.ends)
        assert made.finish == "stop" or len(made.ids) == 25
    small = tiny_engine(options=EngineOptions(context=len(asked[0]) + 4))
    (made,) = small.generate(asked[:1], Sampling(max_tokens=25), [5])
    assert len(made.ids) <= 4
    with pytest.raises(ContextTooLong, match="shorter instructions"):
        small.generate([asked[0] + [5] * 4])


def test_choices_that_there_are_not(engine: LocalEngine) -> None:
    with pytest.raises(BadRequest, match="logit_bias"):
        engine.generate([[5]], Sampling(extra_body={"logit_bias": {}}))


def test_weights_that_change_in_place(engine: LocalEngine) -> None:
    torch = require("torch", "local")
    asked = prompts(engine)
    before = engine.generate(asked, GREEDY)
    engine.model.train()
    with torch.no_grad():
        for each in engine.model.parameters():
            each.add_(0.2 * torch.randn(each.shape, generator=torch.Generator().manual_seed(1)))
    engine.weights_changed()
    after = engine.generate(asked, GREEDY)
    assert engine.model.training, "it is left as it was"
    engine.model.eval()
    assert [made.ids for made in after] != [made.ids for made in before]
    assert [made.ids for made in after] == [greedy_of_transformers(engine.model, prompt, 12) for prompt in asked]


def test_what_cannot_be_opened(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="no model can be loaded from"):
        LocalEngine.open(tmp_path)
    with pytest.raises(UsageError, match="the device `cuda:7` cannot be used"):
        LocalEngine.open(folder, EngineOptions(device="cuda:7"))
    with pytest.raises(UsageError, match="option `max_batch` is 0"):
        EngineOptions(max_batch=0)
    with pytest.raises(UsageError, match="use float32"):
        EngineOptions(dtype="int8")


def test_a_short_sliding_window_is_refused_unless_it_is_chosen() -> None:
    with pytest.raises(UsageError, match=r"see 64 tokens back.* insist with the option `context=64`"):
        tiny_engine("mistral", sliding_window=64)
    engine = tiny_engine("mistral", EngineOptions(context=64), sliding_window=64)
    assert engine.context == 64
    assert tiny_engine("mistral", sliding_window=4096).context == 512


def test_top_p_of_zero_or_next_to_it_takes_the_likeliest(engine: LocalEngine) -> None:
    prompt = prompts(engine)[0]
    (greedy,) = engine.generate([prompt], GREEDY)
    for top_p in (0, 1e-9, 1e-300):
        (found,) = engine.generate([prompt], Sampling(top_p=top_p, max_tokens=12))
        assert found.ids == greedy.ids
    for temperature in (1e-300, 1e-9):
        (found,) = engine.generate([prompt], Sampling(temperature=temperature, max_tokens=12))
        assert found.ids == greedy.ids
    with pytest.raises(UsageError, match=r"--top-p is -0\.1"):
        Sampling(top_p=-0.1)


def test_layers_that_keep_no_keys_are_refused() -> None:
    with pytest.raises(UsageError, match=r"serve it with vLLM|does not keep keys"):
        tiny_engine("mamba")


def as_on_cuda(tokens: int, device: str) -> int:
    return looked_at(tokens, "cuda" if device == "cpu" else device)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_pass_that_looks_at_whole_steps_of_memory_gives_the_same_tokens(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny_engine(kind)
    wanted = engine.generate(prompts(engine), GREEDY)
    monkeypatch.setattr(batch, "looked_at", as_on_cuda)
    found = tiny_engine(kind).generate(prompts(engine), GREEDY)
    assert [reply.ids for reply in found] == [reply.ids for reply in wanted]


def test_memory_is_looked_at_in_whole_steps_on_an_accelerator_only() -> None:
    assert [looked_at(tokens, "cpu") for tokens in (1, 256, 257)] == [1, 256, 257]
    assert [looked_at(tokens, "cuda") for tokens in (1, 256, 257)] == [256, 256, 512]
    assert looked_at(257, "mps") == 512


def test_attention_on_cuda_leaves_out_the_kernels_that_are_planned_for_each_shape() -> None:
    torch = require("torch", "local")
    with attention_kernels("cpu"):
        assert torch.backends.cuda.cudnn_sdp_enabled()
    with attention_kernels("cuda"):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_prefixes_make_room_and_stay_right() -> None:
    """Memory for nine blocks, where one prompt alone has up to nineteen: they push each other out all the time."""
    engine = tiny_engine(options=EngineOptions(memory=1.6e-4, max_batch=4))
    expected = tiny_engine()
    for _ in range(3):
        asked = prompts(engine)
        assert [made.ids for made in engine.generate(asked, GREEDY)] == [
            made.ids for made in expected.generate(asked, GREEDY)
        ]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_packed_weights_speak_like_float32(kind: str, tmp_path: Path) -> None:
    torch, tokenizer = require("torch", "local"), tiny_tokenizer()
    tiny_model(tokenizer, kind).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    plain, half = (
        LocalEngine.open(tmp_path, EngineOptions(device="cpu", dtype=each)) for each in ("float32", "float16")
    )
    assert weights_of(half.model) >= weights_of(plain.model) > 0
    asked = prompts(plain)
    for prompt, made in zip(asked, half.generate(asked, Sampling(max_tokens=6)), strict=True):
        with torch.inference_mode():
            logits = plain.model(torch.tensor([prompt + made.ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits, -1)[range(len(made.ids)), made.ids]
        assert made.logprobs == pytest.approx(expected.tolist(), abs=0.05)
        assert made.logprobs != expected.tolist()


def test_a_reply_of_packed_weights_does_not_depend_on_its_company(folder: Path) -> None:
    engine = LocalEngine.open(folder, EngineOptions(device="cpu", dtype="float16"))
    asked = prompts(engine)
    together = engine.generate(asked, Sampling(max_tokens=20), [7] * len(asked))
    engine.weights_changed()
    alone = [engine.generate([prompt], Sampling(max_tokens=20), [7])[0] for prompt in asked]
    assert [made.ids for made in together] == [made.ids for made in alone]


def test_without_the_kernels_float16_is_that_of_torch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_ENGINE", "none such")
    engine = LocalEngine.open(folder, EngineOptions(device="cpu", dtype="float16"))
    assert engine.model.dtype == require("torch", "local").float16


def test_threads_are_measured_unless_they_were_chosen(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    torch = require("torch", "local")
    seconds = {1: 1.0, 2: 0.7, 4: 0.65}

    def cores(_process: int) -> range:
        return range(4)

    def measured(_torch: Any, _work: object) -> float:
        return seconds[torch.get_num_threads()]

    monkeypatch.setattr(weights.os, "sched_getaffinity", cores, raising=False)
    monkeypatch.setattr(weights, "_seconds", measured)
    LocalEngine.open(folder)
    assert torch.get_num_threads() == 1, "OMP_NUM_THREADS or an earlier model chose it"
    torch.set_num_threads(4)
    LocalEngine.open(folder)
    assert torch.get_num_threads() == 1, "a small model needs no more"
    torch.set_num_threads(4)
    monkeypatch.setattr(weights, "SMALL", 0)
    LocalEngine.open(folder)
    assert torch.get_num_threads() == 2, "four threads save less than a fifth"
    LocalEngine.open(folder, EngineOptions(threads=3))
    assert torch.get_num_threads() == 3


def test_bfloat16_on_a_processor_that_is_slower_with_it_is_noted(
    monkeypatch: pytest.MonkeyPatch, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter((3.0, 1.0, 1.0, 3.0))

    def measured(_torch: Any, _work: object) -> float:
        return next(times)

    monkeypatch.setattr(weights, "_seconds", measured)
    LocalEngine.open(folder, EngineOptions(dtype="bfloat16"))
    (note,) = caplog.messages
    assert "bfloat16 takes 3.0 times as long as float32" in note
    LocalEngine.open(folder, EngineOptions(dtype="bfloat16"))
    assert caplog.messages == [note]
