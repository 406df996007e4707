"""Keys that servers repeat are taken out, in all forms they travel in, before anything is read or written."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit.errors import MalformedReply, ModelFault, RunStopped
from simkit.models.providers.openai import Endpoint
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply
from simkit.models.transport.secrets import Secrets

KEY = "sk-Proj/9876543210+zyxwvu=AB"
FORMS = {
    "plain": KEY,
    "bearer": f"Bearer {KEY}",
    "quoted": quote(KEY, safe=""),
    "base64": b64encode(KEY.encode()).decode(),
    "base64 of the header": b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of basic authentication": b64encode(f"me:{KEY}\n".encode()).decode(),
    "base64 of the request": urlsafe_b64encode(f"x Authorization: Bearer {KEY}\r\nAccept: */*".encode()).decode(),
    "hex": KEY.encode().hex(),
}


def answered(content: str, *, ensure_ascii: bool = True) -> HttpReply:
    body = {
        "id": "c",
        "model": content,
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "content": content,
                    "reasoning": content,
                    "tool_calls": [{"id": content, "function": {"name": "f", "arguments": json.dumps({"a": content})}}],
                }
            }
        ],
    }
    return HttpReply(200, {}, json.dumps(body, ensure_ascii=ensure_ascii).encode())


def holds_key(text: str) -> bool:
    core = KEY[8:18]
    return any(part in text for part in (core, b64encode(b"0" + core.encode()).decode()[3:12], core.encode().hex()))


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_read_without_the_key(form: str) -> None:
    response = read_reply(answered(f"it is {FORMS[form]}, yes"), ReplyContext("http://there", "m", KEY))
    told = json.dumps(response.to_json(), default=str) + str(response)
    assert "[key]" in told
    assert not holds_key(told), told


@pytest.mark.parametrize("escape", ["\\u0073k-Proj\\/9876543210+zyxwvu=AB", "sk-Proj\\u002f9876543210\\u002Bzyxwvu=AB"])
def test_escapes_of_json_hide_no_key(escape: str) -> None:
    body = b'{"choices": [{"message": {"role": "assistant", "content": "it is %s"}}]}' % escape.encode()
    response = read_reply(HttpReply(200, {}, body), ReplyContext("http://there", "m", KEY))
    assert response.message.content == "it is [key]"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 413, 429, 500, 503])
def test_no_message_holds_the_key(form: str, status: int) -> None:
    sent = FORMS[form]
    headers = {"location": f"/{sent}", "content-type": f"text/{sent}", "retry-after": sent}
    for body in (sent, json.dumps({"error": {"message": sent, "code": sent}}), json.dumps({"detail": [{"in": sent}]})):
        with pytest.raises((ModelFault, RunStopped)) as caught:
            read_reply(HttpReply(status, headers, body.encode()), ReplyContext("http://there", "m", KEY))
        assert not holds_key(str(caught.value)), caught.value


@pytest.mark.parametrize("key", ["none", "EMPTY", "password", "Gateway", "x"])
def test_a_key_that_is_a_word_stays_in_what_a_model_says(key: str) -> None:
    said = f"my {key} is nobody's business"
    assert read_reply(answered(said), ReplyContext("http://there", "m", key)).message.content == said
    with pytest.raises(ModelFault) as caught:
        read_reply(HttpReply(400, {}, f"sent {key}".encode()), ReplyContext("http://there", "m", key))
    assert f"sent {key}" not in str(caught.value)


@given(st.text(st.characters(codec="utf-8"), min_size=8, max_size=30), st.binary(max_size=5), st.binary(max_size=5))
def test_whatever_the_key_and_its_surroundings(key: str, before: bytes, after: bytes) -> None:
    secrets = Secrets.of([f"{key}9"])
    body = before + f"{key}9".encode() + after
    assert f"{key}9".encode() not in secrets.out_of_answer(body)
    coded = b64encode(before + f"{key}9".encode() + after)
    assert secrets.out_of_answer(coded) != coded


def test_clean_answers_are_left_as_they_are() -> None:
    body = answered("Grüße \\ \n \u2028 😀", ensure_ascii=False).body
    assert Secrets.of([KEY]).out_of_answer(body) is body


def test_credentials_of_proxies_and_urls_are_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://somebody:pr0xy-word@127.0.0.1:1")
    endpoint = Endpoint(base_url="http://me:url-w0rd-9@there/v1")
    reading = ReplyContext("http://there", "m", endpoint.secret, endpoint.more_secrets)
    basic = b64encode(b"me:url-w0rd-9").decode()
    assert reading.clean(f"Basic {basic}, url-w0rd-9, pr0xy-word") == "Basic [key], [key], [key]"
    assert "pr0xy" not in repr(reading) + repr(endpoint)


def test_what_is_no_completion_is_shown_without_the_key_however_it_lies_across_the_cut() -> None:
    for place in (0, 290, 65_530, 65_536 - len(KEY), 131_070):
        with pytest.raises(MalformedReply) as caught:
            read_reply(
                HttpReply(200, {}, b" " * place + KEY.encode() + b" " * 99), ReplyContext("http://there", "m", KEY)
            )
        assert not holds_key(str(caught.value))
