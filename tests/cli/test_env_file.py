"""A `.env` of the current folder cannot send a key that was exported to a place of its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from simkit.cli.envfile import EnvFile, read_env_file
from simkit.errors import UsageError
from support.forked_commands import Finished, ProcessOptions, run_forked

KEY = "sk-exported-0123456789"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of its own, with a key that was exported."""
    own = {"OPENAI_API_KEY": KEY, "PATH": os.environ["PATH"]}
    monkeypatch.setattr(os, "environ", own)
    return own


def read(folder: Path, text: str) -> EnvFile:
    (folder / ".env").write_text(text)
    return read_env_file(folder / ".env")


PLACES = [
    "OPENAI_BASE_URL=http://evil/v1",
    "SIMKIT_BASE_URL=http://evil/v1",
    "SIMKIT_USER_BASE_URL=http://evil/v1",
    "HTTP_PROXY=http://evil:3128",
    "https_proxy=http://evil:3128",
    "ALL_PROXY=socks5://evil",
    "all_proxy=socks5://evil",
    "SSL_CERT_FILE=evil.pem",
    "SSL_CERT_DIR=evil",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_from_the_file_gets_no_exported_key(
    place: str, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(tmp_path, place)
    name = place.partition("=")[0]
    with pytest.raises(UsageError, match=f"{name}.*OPENAI_API_KEY comes from the environment.*--trust-env-file"):
        found.check(trusted=False)
    found.check(trusted=True)
    assert f"decides where requests go: {place.partition('?')[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("place", PLACES)
def test_a_key_from_the_file_may_go_where_the_file_says_but_not_in_silence(
    place: str, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del environment["OPENAI_API_KEY"]
    read(tmp_path, f"{place}\nOPENAI_API_KEY=sk-of-the-file\n").check(trusted=False)
    assert environment["OPENAI_API_KEY"] == "sk-of-the-file"
    assert place.partition("=")[0] in capsys.readouterr().err


def test_what_is_set_or_given_wins_over_the_file(environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"OPENAI_BASE_URL": "http://mine/v1", "HTTP_PROXY": "http://mine"}
    found = read(tmp_path, "OPENAI_BASE_URL=http://evil\nhttp_proxy=http://evil\nSIMKIT_SEED=3\n")
    assert dict(found.values) == {"SIMKIT_SEED": "3"}
    found.check(trusted=False)
    other = read(tmp_path, "SIMKIT_BASE_URL=http://evil\nSIMKIT_USER_BASE_URL=http://evil\n")
    other.check(trusted=False, given=frozenset({"base_url", "user_base_url"}))
    with pytest.raises(UsageError, match="SIMKIT_USER_BASE_URL"):
        other.check(trusted=False, given=frozenset({"base_url"}))


@pytest.mark.parametrize(
    "line", ["PYTHONPATH=x", "LD_PRELOAD=x", "PATH=x", "PYTHONSTARTUP=x", "HOME=x", "HF_ENDPOINT=http://evil", "X=1"]
)
def test_only_known_variables_are_taken(line: str, environment: dict[str, str], tmp_path: Path) -> None:
    before = dict(environment)
    read(tmp_path, line).check(trusted=False)
    assert environment == before


def test_no_other_variable_s_value_gets_into_one_of_the_file(environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SIMKIT_BASE_URL with a reference to another variable"):
        read(tmp_path, "SIMKIT_BASE_URL=http://evil/${OPENAI_API_KEY}\n")
    assert "SIMKIT_BASE_URL" not in environment


def test_code_named_by_the_file_is_not_run_unasked(environment: dict[str, str], tmp_path: Path) -> None:
    found = read(tmp_path, "SIMKIT_USER_MODEL=evil.py:Model\n")
    with pytest.raises(UsageError, match="names code to run as a model"):
        found.check(trusted=False)
    found.check(trusted=False, given=frozenset({"user_model"}))
    found.check(trusted=True)


def test_spans_with_an_exported_key_go_nowhere_the_file_says(environment: dict[str, str], tmp_path: Path) -> None:
    environment["OTEL_EXPORTER_OTLP_HEADERS"] = "api-key=secret"
    found = read(tmp_path, "OTEL_EXPORTER_OTLP_ENDPOINT=http://evil:4318\n")
    found.check(trusted=False)
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        found.check(trusted=False, traces=True)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00A", None])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is None:
        assert not read_env_file(tmp_path / ".env").values
        return
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        read_env_file(tmp_path / ".env")


class Evil(BaseHTTPRequestHandler):
    """Keeps the keys it is sent."""

    server: EvilServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.append(self.headers["authorization"])
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Yes."}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class EvilServer(ThreadingHTTPServer):
    """The place that a foreign `.env` names."""

    daemon_threads = True

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Evil)


@pytest.fixture
def evil() -> Iterator[EvilServer]:
    with EvilServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "HTTP_PROXY"])
def test_the_key_is_not_sent(name: str, evil: EvilServer, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{name}=http://127.0.0.1:{evil.server_port}\n")
    proxied = ["--base-url", "http://models.example/v1"] if name == "HTTP_PROXY" else []
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}

    def simkit(*more: str) -> Finished:
        flags = ["--tasks", "1", "--model", "openai/m", "--max-retries", "0", "--max-turns", "1", *proxied]
        place = ProcessOptions(tmp_path, {**clean, "OPENAI_API_KEY": KEY})
        return run_forked(["run", "rollout", *flags, "--store", "store", *more], place)

    refused = simkit()
    assert refused.code == 2, refused.err
    assert name in refused.err
    assert evil.keys == []
    trusted = simkit("--trust-env-file")
    assert f"note: .env decides where requests go: {name}=http://127.0.0.1" in trusted.err
    assert f"Bearer {KEY}" in evil.keys


def test_a_file_cannot_choose_which_variable_is_sent_as_a_key(environment: dict[str, str], tmp_path: Path) -> None:
    environment["CLOUD_PASSWORD"] = KEY
    found = read(tmp_path, "SIMKIT_API_KEY_ENV=CLOUD_PASSWORD\nSIMKIT_USER_API_KEY_ENV=CLOUD_PASSWORD")
    assert found.values == {}
    assert "SIMKIT_API_KEY_ENV" not in environment


def test_a_key_under_another_name_is_protected_too(environment: dict[str, str], tmp_path: Path) -> None:
    environment["MY_KEY"] = KEY
    found = read(tmp_path, "SIMKIT_BASE_URL=http://evil/v1\nOPENAI_API_KEY=from-the-file")
    del environment["OPENAI_API_KEY"]
    with pytest.raises(UsageError, match="MY_KEY"):
        found.check(trusted=False, keys=frozenset({"MY_KEY"}))
    environment["SIMKIT_USER_API_KEY_ENV"] = "MY_KEY"
    with pytest.raises(UsageError, match="MY_KEY"):
        found.check(trusted=False)
