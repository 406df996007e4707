"""Signs in error replies of the servers that people use: codes by what they are about, and words where no code is sent.

Codes are written as `error_details.normalized` reduces them; words are in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "unparsed", "quota", "context", "filter", "region", "key", "model", "rate", "busy", "request", "server"
]
"""Subjects of errors, in the order of precedence. The last two are used only if there is no HTTP status."""

CODES: Mapping[Kind, tuple[str, ...]] = {
    "unparsed": ("toolusefailed", "outputparsefailed", "jsonvalidatefailed"),
    "quota": (
        *("insufficientquota", "billinghardlimitreached", "billingnotactive", "accountdeactivated", "paymentrequired"),
        *("insufficientbalance", "insufficientcredits", "insufficientfunds", "insufficientuserquota", "arrearage"),
        *("enforcedspendlimitreached", "contractspendlimitreached", "linkedorganizationspendlimitreached"),
        *(
            "exceededcurrentquota",
            "creditbalancetoolow",
            "quotaexhausted",
            "accessterminated",
            "allocationquotafreetieronly",
        ),
        *("billinglimitreached", "nocredits", "outofcredits", "preconsumetokenquotafailed", "billing"),
    ),
    "context": (
        *("contextlengthexceeded", "exceedcontextsize", "contextwindowexceeded", "modelcontextwindowexceeded"),
        *("requesttoolarge", "prompttoolong", "inputtoolong", "stringabovemaxlength", "tokenlimitexceeded"),
        *("promptexceedsmaxlength", "contextoverflow", "maxcontextlengthexceeded"),
    ),
    "filter": (
        *("contentfilter", "contentpolicyviolation", "responsibleaipolicyviolation", "datainspectionfailed"),
        *("contentfilterpolicy", "contentmoderation", "moderationblocked", "promptblocked", "invalidprompt"),
        *("sensitivecontent", "safety", "prohibitedcontent", "blocklist", "contentpolicy", "moderation"),
    ),
    "region": ("unsupportedcountryregionterritory", "regionnotsupported", "locationnotsupported", "countryblocked"),
    "key": (
        *("invalidapikey", "incorrectapikey", "apikeyinvalid", "apikeyexpired", "invalidauthentication"),
        *(
            "authentication",
            "permission",
            "unauthenticated",
            "unauthorized",
            "unrecognizedclient",
            "invalidsignature",
            "expiredtoken",
        ),
    ),
    "model": (
        *("modelnotfound", "deploymentnotfound", "modelnotsupported", "modelnotavailable", "modelaccessdenied"),
        *("invalidmodel", "modelnotexist", "modeldecommissioned", "modelterms", "unknownmodel", "modeldeprecated"),
        "notfound",
    ),
    "rate": (
        *("ratelimitexceeded", "ratelimit", "ratelimitreached", "toomanyrequests", "throttling", "throttled"),
        *("throttlingratequota", "limitrequests", "limitburstrate", "requestlimitexceeded", "resourceexhausted"),
        *("ratequota", "allocationquota", "concurrencylimitexceeded", "modelnotready", "slowdown", "tokensperminute"),
    ),
    "busy": (
        *("overloaded", "engineoverloaded", "serviceunavailable", "unavailable", "modeloverloaded", "overcapacity"),
        *("capacityexceeded", "nocapacity", "serveroverloaded"),
    ),
    "request": ("invalidrequest", "badrequest", "invalidargument", "validation", "unprocessableentity"),
    "server": ("server", "internal", "internalserver", "api", "timeout", "deadlineexceeded", "modeltimeout"),
}
TOO_LONG = (
    *("context length", "context_length", "context window", "context size", "maximum context", "max_model_len"),
    *("prompt is too long", "input is too long", "too many tokens", "too many input tokens", "reduce the length"),
    *("exceed_context_size", "exceed context limit", "context limit", "maximum prompt length", "model token limit"),
    *("exceeds the maximum number of tokens", "input token count", "maximum model length", "max_input_tokens"),
    *("`inputs` tokens + `max_new_tokens`", "`inputs` must have less than", "maximum input length"),
    *(
        "range of input length",
        "prompt token count",
        "length of the prompt",
        "input tokens exceed",
        "context the overflows",
    ),
    *(
        "context overflow",
        "maximum allowed length",
        "request payload size exceeds",
        "prompt: length",
        "string too long",
    ),
)
TOO_LONG_FORM = re.compile(
    r"\b(?:inputs?|prompt|messages?|conversation|request)\b[^.]{0,80}"
    r"\b(?:exceed\w*|too long|longer than|too large)[^.]{0,80}\b(?:context|tokens?|length)\b"
)
ABOUT_THE_REPLY = re.compile(
    r"\b(?:max_(?:completion_|new_|output_)?tokens|maximum tokens|output tokens|completion tokens)\b"
)
FILTERED = (
    *("content filter", "content_filter", "content management policy", "responsibleai", "moderation", "flagged"),
    *("usage policy", "usage policies", "safety system", "content policy", "content_policy", "inappropriate content"),
    *("prohibited content", "prohibited_content", "content filtering policy", "sensitive words", "sensitive content"),
)
BAD_KEY = (
    *("api key not valid", "invalid api key", "incorrect api key", "invalid_api_key", "invalid x-api-key"),
    *("api key expired", "no api key", "invalid authentication", "api key is invalid"),
)
NO_QUOTA = (
    *("insufficient_quota", "exceeded your current quota", "insufficient balance", "insufficient credit"),
    *(
        "credit balance is too low",
        "out of credits",
        "not enough credits",
        "account is not active",
        "hard limit has been",
    ),
    *("key limit exceeded", "monthly limit", "spend limit", "spending limit", "余额不足", "欠费"),
)
REGION = (
    "country, region, or territory",
    "location is not supported",
    "not available in your",
    "not supported in your",
)
NO_MODEL = (
    *("model_not_found", "invalid model name", "server is pinned to", "model not exist", "is not a valid model"),
    *("unknown model", "model identifier is invalid", "no such model", "access to model", "access to the model"),
    *("non-serverless model", "invalid model:", "model not found", "not have access to the requested model"),
)
THAT_MODEL = re.compile(r"model \S{1,300} (?:does not exist|not found|is not found|was not found|is not available)")
NO_TOOLS = re.compile(
    r"(?:not|n't) support (?:tools|tool use|tool call|function)|support tool use|tools? (?:is|are) not supported"
)
OF_A_MINUTE = re.compile(
    r"per[ _-]?min|/ ?min|\b[rt]pm\b|per[ _-]?sec|/ ?s(?:ec)?\b|\brps\b|rate limit|too many requests|throttl|"
    r"try again in|retry in|retry after|concurren|requests per|tokens per"
)
OF_A_DAY = re.compile(r"per[ _-]?day|/ ?day|\b[rt]pd\b|daily|per[ _-]?month|monthly|per[ _-]?week|weekly")
PER_MINUTE = re.compile(r"per[ _-]?min|\b[rt]pm\b")
LIMIT = re.compile(r"\blimit(?:ed to| is| of|:)?[ :]{0,2}([\d,]{1,15})")
REQUESTED = re.compile(r"\brequested[ :]{0,2}(?:about )?([\d,]{1,15})")
BLOCKED = re.compile(
    r"error code: ?10\d\d|just a moment|attention required|access denied.{0,80}(?:reference|edgesuite)"
)
LOADING = re.compile(r"\bloading\b|starting up|warming up|not ready|initiali[sz]ing")
WAY_THROUGH = frozenset({408, 425, 502, 503, 504, 520, 521, 522, 523, 524, 529})
