"""A small MCP server on stdio, without libraries so that it starts fast: notes in a folder, a marker in memory, faults.

python mcp_server.py [FOLDER]
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else None
TEXT = {"type": "string"}
TOOLS = {
    "write": {"key": TEXT, "value": TEXT},
    "read": {"key": TEXT},
    "list.all": {},
    "mark": {"value": TEXT},
    "marked": {},
    "count": {},
    "picture": {},
    "structured": {},
    "env": {"name": TEXT},
    "tell": {"name": TEXT},
    "fail": {},
    "refuse": {},
    "crash": {},
    "slow": {"seconds": {"type": "number"}, "steps": {"type": "integer"}},
}
STATE: dict[str, Any] = {"marker": ""}
COUNT = itertools.count()


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(value: str, error: bool = False) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}], "isError": error}


def called(name: str, given: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    match name:
        case "write":
            assert FOLDER is not None
            (FOLDER / given["key"]).write_text(given["value"])
            return text(json.dumps({"written": given["key"], "at": time.time_ns()}))
        case "read":
            assert FOLDER is not None
            file = FOLDER / given["key"]
            return text(file.read_text()) if file.exists() else text(f"there is no {given['key']}", True)
        case "list.all":
            assert FOLDER is not None
            return text(",".join(sorted(os.listdir(FOLDER))))
        case "mark":
            STATE["marker"] = given["value"]
            return text("marked")
        case "marked":
            return text(STATE["marker"])
        case "count":
            return text(f"{os.getpid()} {next(COUNT)}")
        case "picture":
            image = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
            held = {"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}
            return {"content": [{"type": "text", "text": "Look:"}, image, held]}
        case "structured":
            return {"content": [{"type": "text", "text": "{}"}], "structuredContent": {"rooms": [1, 2]}}
        case "env":
            return text(os.environ.get(given["name"], "(none)"))
        case "fail":
            return text("no such room", True)
        case "tell":
            sys.stderr.write(f"my key is {os.environ[given['name']]}\n")
            sys.stderr.flush()
            os._exit(3)
        case "crash":
            sys.stderr.write("the disk is \x1b[31mon fire\n")
            sys.stderr.flush()
            os._exit(3)
        case "slow":
            for step in range(given.get("steps", 0)):
                time.sleep(given["seconds"])
                if (token := meta.get("progressToken")) is not None:
                    params = {"progressToken": token, "progress": step + 1}
                    send({"method": "notifications/progress", "params": params})
            if not given.get("steps"):
                time.sleep(given["seconds"])
            return text("done")
        case _:
            raise LookupError(name)


def answered(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        server = {"name": "notes", "version": "1"}
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "ping":
        return {}
    if method == "tools/list":
        schemas = [
            {"name": name, "description": f"Does {name}.", "inputSchema": {"type": "object", "properties": fields}}
            for name, fields in TOOLS.items()
        ]
        half = len(schemas) // 2
        if "endless" in sys.argv:
            return {"tools": schemas[:half], "nextCursor": "again"}
        return {"tools": schemas[half:]} if params.get("cursor") else {"tools": schemas[:half], "nextCursor": "rest"}
    if method == "tools/call" and params["name"] != "refuse":
        return called(params["name"], params.get("arguments") or {}, params.get("_meta") or {})
    raise LookupError(method)


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        try:
            send({"id": message["id"], "result": answered(message["method"], message.get("params") or {})})
        except LookupError as error:
            code = -32602 if message["method"] == "tools/call" else -32601
            send({"id": message["id"], "error": {"code": code, "message": f"unknown: {error}"}})


if __name__ == "__main__":
    main()
