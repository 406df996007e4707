"""`simkit serve MODEL`: serves a local model to clients of the OpenAI API."""

from __future__ import annotations

from simkit.cli.output import say
from simkit.cli.program import program
from simkit.local.engine import LocalEngine
from simkit.local.packed import weights_of
from simkit.local.server import Served, listen, make_server
from simkit.local.weights import EngineOptions, is_packed
from simkit.local.worker import Worker


def serve(model: str, options: EngineOptions, host: str, port: int, api_key: str | None) -> None:
    """Serve a model until Ctrl-C.

    Raises:
        UsageError: the model or the address cannot be used, or a package is missing.
    """
    name = model.removeprefix("local/")
    with listen(host, port) as door:  # before the model is loaded, so that a used address is reported at once
        say(f"loading {name} ...", err=True)
        worker = Worker(LocalEngine.open(name, options))
        url = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}/v1"
        server = make_server(Served(worker=worker, name=name, api_key=api_key))
        say(_greeting(name, worker, url))  # from here on clients wait in the socket's queue
        try:
            server.run(sockets=[door])
        except KeyboardInterrupt:  # uvicorn has shut down and raises it again
            say("stopped", err=True)
        finally:
            worker.close()


def _greeting(name: str, worker: Worker, url: str) -> str:
    engine = worker.engine
    weight = engine.model.get_input_embeddings().weight
    packed = is_packed(weight.device.type, engine.options.dtype)
    dtype = "float16" if packed else str(weight.dtype).removeprefix("torch.")
    held = f"{_short(weights_of(engine.model))} parameters, {dtype} on {weight.device}"
    return (
        f"serving {name} ({held}, {engine.context} tokens of context) at {url}; Ctrl-C stops it\n"
        f"  {program()} run rollout --model openai/{name} --base-url {url}"
    )


def _short(count: int) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)
