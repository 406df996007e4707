"""Model calls with their requests, and the curves of a training beside the runs behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from made_answers import answer_with, chain, conversation, line, run, run_row, transcript

from support.browser import NARROW, WIDE, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SEED = 7233536424940793653
CALL = "/api/calls/made/task/0/"
NEEDED = {
    "recorded": "stored this request",
    "rebuilt": "its hash is the recorded one",
    "differs": "its hash is not the recorded one",
    "unavailable": "The component is another one now.",
}


def call(state: str) -> dict[str, Any]:
    """`/api/calls/...`: a seed that JavaScript's numbers cannot hold, and a temperature that is no integer."""
    request = {"messages": [{"role": "user", "content": "hello there"}], "tools": [{"name": "find"}], "seed": SEED}
    return {
        "state": state, "reason": "the component is another one now", "model": "local/m", "hash": "abc",
        "request": None if state == "unavailable" else request, "params": {"seed": SEED, "temperature": 1.0},
        "response": {"message": {"content": "hi"}, "usage": {"prompt_tokens": 20, "completion_tokens": 3}},
    }  # fmt: skip


@pytest.mark.parametrize("state", NEEDED)
def test_a_model_call_says_what_is_known_of_its_request(browser: Browser, address: str, state: str) -> None:
    made = {"call_id": ".1~agent~0", "branch_id": "made/task/0/.1", "turn": 1, "step": 0, "role": "agent"}
    made |= {"model": "local/m", "prompt_tokens": 20, "completion_tokens": 3, "seconds": 1.5, "cost": 0.0004}
    said = transcript([line(1, 1, "agent", "hi")], model_calls=[{**made, "attempts": 2, "error": None}])
    with visiting(browser, address) as visit:
        answer_with(visit.page, conversation(chain(1), said, **{CALL: call(state)}))
        page = visit.open("/runs/made/task/0")
        page.get_by_role("button", name="1 model call · 1.5 s · $0.00040").click()
        assert "2 attempts" in visit.text(".way")
        page.locator(".way").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("20 + 3 tokens").wait_for()
        text = dialog.inner_text()
        assert state in text
        assert NEEDED[state] in text
        assert f'"seed": {SEED}' in text
        assert '"temperature": 1.0' in text
        assert ("hello there" in text) == (state != "unavailable")
        assert visit.violations() == []
        visit.press("Escape")
        assert "call=" not in visit.route_of()
        assert dialog.count() == 0


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_curves_stand_beside_the_runs_behind_them(browser: Browser, address: str, width: int) -> None:
    steps = range(1, 101)
    columns = [("made", "train", "loss", step, 1 / step) for step in steps]
    columns += [("made.seed0", "guard", "reward", step, step / 100) for step in (0, 50, 100)]
    columns += [("made", "train", "steps", step, 100) for step in steps]
    names = ("run_id", "stage", "name", "step", "value")
    metrics = {name: [column[i] for column in columns] for i, name in enumerate(names)}
    parts = [run_row(run_id="made.seed0", stage="harvest", episodes=160, part_of="made")]
    page_of = run(0, 0, parts=parts, reward=None, success=None, pass_k=[], recipe="selftrain")
    with visiting(browser, address, width=width) as visit:
        answer_with(visit.page, {"/api/runs/made/metrics": metrics, "/api/runs/made": page_of})
        page = visit.open("/runs/made")
        page.locator(".curve").first.wait_for()
        titles = [" ".join(text.split()) for text in page.locator(".curve h3").all_inner_texts()]
        assert titles == ["reward seed0 · guard 1", "loss train 0.01"]
        assert "160 episodes" in visit.text(".part-row")
        assert visit.scrolls_sideways() <= 0
        assert visit.violations() == []
        visit.press("d")
        assert "step 50" in visit.text(".curve >> nth=0")
        page.locator(".part-row").click()
        page.wait_for_url(lambda url: url.endswith("/runs/made.seed0"))
