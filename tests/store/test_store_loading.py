from __future__ import annotations

from store_events import josh_episode, run_finished, run_started, write_journal

from simkit.store import Store


def test_an_episode_becomes_rows(store: Store) -> None:
    write_journal(store.path, [run_started(), *josh_episode().events, run_finished()])
    assert store.load().lines == 16
    assert store.query("SELECT count(*) FROM messages").rows == [(12,)]
    assert store.query("SELECT name, status, average_reward FROM run_summary").rows == [("demo", "done", 1.0)]
