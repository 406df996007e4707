"""Components by name: an entry point (`scripted`), `path/to/file.py:Class` or `package.module:Class`.

A world can also be a folder (`./shop`). Any of them may have constructor options:
`scripted,error_rate=0.2,habits=drop:people`. There is no registry: names are looked up on demand among the entry points
of installed packages.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache, partial
from hashlib import sha256
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

from simkit.errors import ComponentNotFound, SimkitError, UsageError

T = TypeVar("T")
Choose: TypeAlias = Callable[[ModuleType], object]


@dataclass(frozen=True, slots=True)
class ComponentKind(Generic[T]):
    """One kind of component: its name in messages, its group of entry points, and its base class.

    A component of a kind with a `folder_group` can also be a folder: the class in that group is built with its path as
    the argument `home`.
    """

    noun: str
    group: str
    base: type[T]
    folder_group: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A component as written by a user: its target, and the options of its constructor as text."""

    target: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])


def parse_reference(text: str) -> Reference:
    """Parse `NAME,key=value,key=value`; a piece without `=` belongs to the value before it (`habits=a,b`).

    Raises:
        UsageError: the name is empty, a value precedes the first key, or a key occurs twice.
    """
    target, *pieces = text.split(",")
    options: dict[str, str] = {}
    key = ""
    for piece in pieces:
        name, equals, value = piece.partition("=")
        if equals and name.strip() in options:
            raise UsageError(f"`{text}` gives the option `{name.strip()}` twice; give it once")
        if not equals and not key:
            raise UsageError(f"`{piece}` in `{text}` is not an option; write options as NAME,key=value,key=value")
        key = name.strip() if equals else key
        options[key] = value if equals else f"{options[key]},{piece}"
    if not target.strip():
        raise UsageError(f"`{text}` names no component; write NAME,key=value or path/to/file.py:Class")
    return Reference(target.strip(), options)


def available(group: str) -> tuple[str, ...]:
    """Sorted names of the entry points that installed packages provide in a group."""
    return tuple(sorted({point.name for point in installed(group)}))


def installed(group: str) -> EntryPoints:
    """Entry points of a group, cached until a folder of the import path changes."""
    return _installed(tuple((folder, _changed_at(folder)) for folder in sys.path)).select(group=group)


@lru_cache(maxsize=1)
def _installed(_folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    return cast("EntryPoints", entry_points())  # Python 3.11 has a class of its own for all of them


def _changed_at(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def load(
    kind: ComponentKind[T],
    text: str,
    given: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    /,
    **options: Any,
) -> T:
    """Build the component that `text` names.

    Args:
        kind: the required kind.
        text: name or path of the component, with options.
        given: values passed to the constructor if it has a parameter of that name (`world`).
        folder: base of relative file names in `text`, including its options; None for the current folder.
        options: further constructor options; None means "not set".

    Raises:
        ComponentNotFound: no such component; the message lists the available ones.
        UsageError: the user's file fails to import, or the constructor rejects its options.
    """
    reference = parse_reference(text)
    factory = find_class(kind, reference.target, folder)
    where = f"{kind.noun} `{reference.target}`"
    rest = {key: value for key, value in options.items() if value is not None and key not in reference.options}
    if kind.folder_group and names_folder(reference.target):
        given = {**(given or {}), "home": (folder or Path()) / reference.target}
    offered = _offered(factory, given or {})
    _refuse_offered(reference.options, offered, where)
    arguments = {
        **offered,
        **_converted(factory, rest, where, hidden=offered),
        **_converted(factory, reference.options, where, folder, hidden=offered),
    }
    try:
        return factory(**arguments)
    except SimkitError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{where} cannot be built: {_place(error)}") from error


def takes(kind: ComponentKind[T], text: str, name: str, folder: Path | None = None) -> bool | None:
    """Whether the constructor of the component that `text` names requires an argument `name`; None if it has none.

    Raises:
        ComponentNotFound: no such component.
        UsageError: the user's file fails to import.
    """
    found = _parameters(find_class(kind, parse_reference(text).target, folder)).get(name)
    return None if found is None else found.default is found.empty


def find_class(kind: ComponentKind[T], target: str, folder: Path | None = None) -> type[T]:
    """Find the class that a target names; its file is relative to `folder`, None for the current folder.

    `NAME:DOMAIN` is one class of an installed family (`tau:retail`), which has them in its attribute `domains`.

    Raises:
        ComponentNotFound: there is no such class, or it is not of this kind.
        UsageError: the user's file fails to import.
    """
    found = (
        _of_folder(kind, target, folder)
        or _domain(kind, target)
        or find_object(kind.noun, kind.group, target, partial(_only_class, kind), folder)
    )
    if not (inspect.isclass(found) and issubclass(found, kind.base)):
        name = f"{kind.base.__module__}.{kind.base.__qualname__}"
        raise ComponentNotFound(f"`{target}` is not a valid {kind.noun}: it must be a class that inherits from {name}")
    return found


def names_folder(target: str) -> bool:
    """Whether a target is written as a folder: `./shop`, `worlds/shop`, `..`."""
    name = target.replace(os.sep, "/")
    return ("/" in name or name in (".", "..")) and ".py" not in name


def _of_folder(kind: ComponentKind[Any], target: str, folder: Path | None) -> object:
    """The class that makes components of folders, if the target names one.

    Raises:
        ComponentNotFound: there is no such folder.
    """
    if not kind.folder_group or not names_folder(target):
        return None
    place = (folder or Path()) / target
    if not os.path.isdir(place):
        raise ComponentNotFound(f"there is no folder {target} (looked in {folder or current_folder()})")
    return _entry_point(kind.noun, kind.folder_group, kind.noun)


def _domain(kind: ComponentKind[Any], target: str) -> object:
    """The class of an installed family that `NAME:DOMAIN` names; None if the target is of another form.

    Raises:
        ComponentNotFound: the family has no such domain.
    """
    family, colon, domain = target.partition(":")
    if not colon or family not in available(kind.group):
        return None
    domains: Mapping[str, object] = getattr(_entry_point(kind.noun, kind.group, family), "domains", {})
    if domains and domain not in domains:
        hint, names = nearest(domain, tuple(domains)), ", ".join(f"{family}:{name}" for name in domains)
        raise ComponentNotFound(f"the {kind.noun} `{family}` has no `{domain}`{hint}; it has: {names}")
    return domains.get(domain)


def find_object(noun: str, group: str, target: str, choose: Choose, folder: Path | None = None) -> object:
    """Find the object that a target names in an entry point, a file or a module.

    `choose(module)` selects the object of a file that was named without one, or returns None. Files and modules are
    searched in `folder`, None for the current folder.

    Raises:
        ComponentNotFound: there is none; the message lists what there is.
        UsageError: the file fails to import.
    """
    place, colon, attribute = target.rpartition(":")
    place, attribute = (place, attribute) if colon else (target, "")
    if place.endswith(".py"):
        module = import_file(Path(place), folder)
        return _attribute(module, attribute, target, noun) if attribute else _chosen(module, target, noun, choose)
    if colon:
        return _attribute(_import_module(place, noun, group, folder), attribute, target, noun)
    return _entry_point(noun, group, target)


def current_folder() -> Path:
    """Path of the current folder.

    Raises:
        UsageError: the folder was removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the current folder was removed; go to one that exists") from error


def import_file(path: Path, folder: Path | None = None) -> ModuleType:
    """Import a user's file under a unique module name, so that it does not hide an installed module.

    A relative path counts from `folder`, None for the current one.

    Its folder is put last on the import path, so that it can import its neighbours. Unchanged files are imported once.

    Raises:
        ComponentNotFound: there is no such file.
        UsageError: it fails to import; the message gives file and line.
    """
    place = path if folder is None else folder / path
    if not os.path.isfile(place):  # Path.is_file raises for names that are too long
        raise ComponentNotFound(f"there is no file {path} (looked in {folder or current_folder()})")
    source = place.resolve()
    digest = sha256(str(source).encode() + source.read_bytes()).hexdigest()[:12]
    name = f"simkit_user_{source.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _see_folder(source.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{path} cannot be imported: {_place(error)}{_advice(error)}") from error
    return module


def nearest(word: str, known: tuple[str, ...]) -> str:
    """The text ` (did you mean ...?)` if a known word is similar, otherwise an empty text."""
    close = get_close_matches(word, known, n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _see_folder(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _import_module(name: str, noun: str, group: str, folder: Path | None) -> ModuleType:
    _see_folder(folder or current_folder())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ComponentNotFound(f"there is no module `{name}`; {_listing(noun, group)}") from error
        raise UsageError(f"the module `{name}` cannot be imported: {_place(error)}{_advice(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"the module `{name}` cannot be imported: {_place(error)}{_advice(error)}") from error


def _attribute(module: ModuleType, attribute: str, target: str, noun: str) -> object:
    try:
        return getattr(module, attribute)
    except AttributeError:
        names = tuple(name for name in vars(module) if not name.startswith("_"))
        raise ComponentNotFound(
            f"no {noun} `{target}`: {module.__file__} has no `{attribute}`{nearest(attribute, names)}"
        ) from None


def _chosen(module: ModuleType, target: str, noun: str, choose: Choose) -> object:
    found = choose(module)
    if found is None:
        what = f"say which: {target}:NAME"
        if noun == "world" and Path(module.__file__ or "").with_name("tasks.yaml").is_file():
            what = f"the world is the folder, {target.rpartition('/')[0] or '.'}/"
        raise ComponentNotFound(f"{target} does not hold exactly one {noun}; {what}")
    return found


def _only_class(kind: ComponentKind[Any], module: ModuleType) -> object:
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and issubclass(value, kind.base)
    ]
    return own[0] if len(own) == 1 else None


def _entry_point(noun: str, group: str, name: str) -> object:
    point = next(iter(installed(group).select(name=name)), None)
    if point is None:
        hint = f"; the folder is ./{name}" if os.path.isdir(name) else nearest(name, available(group))
        raise ComponentNotFound(f"no {noun} is called `{name}`{hint}; {_listing(noun, group)}")
    return _loaded(point, noun)


def _loaded(point: EntryPoint, noun: str) -> object:
    try:
        return point.load()
    except SimkitError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"the installed {noun} `{point.name}` ({point.value}) fails: {_place(error)}") from error


def _listing(noun: str, group: str) -> str:
    names = ", ".join(available(group)) or "none"
    folder = "a folder with tasks.yaml (./NAME), " if noun == "world" else ""
    return f"installed: {names}; or give your own {noun} as {folder}path/to/file.py:NAME or package.module:NAME"


def _advice(error: BaseException) -> str:
    from simkit.plugins.extras import advice_on

    return advice_on(error)


def _place(error: BaseException) -> str:
    """Description of an error, with the file and line of the author's code that raised it."""
    from simkit.core.boundary import described  # imports anyio, which --help does not need
    from simkit.core.tracebacks import own_place

    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    place = own_place(error) or last
    return f"{place}: {described(error)}" if place else described(error)


# --- constructor options ----------------------------------------------------------------------------------------------


def _parameters(factory: type[Any]) -> dict[str, inspect.Parameter]:
    if factory.__init__ is object.__init__:
        return {}
    return dict(inspect.signature(factory).parameters)


def _offered(factory: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    known = _parameters(factory)
    return {key: value for key, value in given.items() if key in known}


def _refuse_offered(wanted: Mapping[str, Any], offered: Mapping[str, Any], where: str) -> None:
    """Reject an option that is set automatically when the component is built: its world, its model."""
    for key in wanted:
        if key in offered:
            raise UsageError(
                f"{where} gets its `{key}` from the run; choose it there (`--world`, `--model`, `--user-model`, "
                "`--temperature`)"
            )


def _converted(
    factory: type[Any],
    wanted: Mapping[str, Any],
    where: str,
    folder: Path | None = None,
    *,
    hidden: Collection[str] = (),
) -> dict[str, Any]:
    """Options converted to the constructor's types; `hidden` ones are not listed if another one is unknown."""
    if not wanted:
        return {}
    known = _parameters(factory)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    names = tuple(name for name, one in known.items() if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD))
    for key in wanted:
        if key not in names and not open_ended:
            shown = tuple(name for name in names if name not in hidden)
            listed = ", ".join(shown) or "none"
            raise UsageError(f"{where} has no option `{key}`{nearest(key, shown)}; its options: {listed}")
    hints = _hints(factory)
    found = {key: _convert(value, hints.get(key, str), f"{where}: option `{key}`") for key, value in wanted.items()}
    if folder is None:
        return found
    return {key: folder / value if _names_file(value, hints.get(key)) else value for key, value in found.items()}


def _names_file(value: Any, annotation: Any) -> bool:
    """Whether an option's value is the path of a file, and not one of the words that its type also allows."""
    return bool(value) and _is_path(annotation) and value not in _words(annotation)


def _is_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_is_path, get_args(annotation)))


def _words(annotation: Any) -> tuple[Any, ...]:
    parts = get_args(annotation)
    return parts if get_origin(annotation) is Literal else tuple(word for part in parts for word in _words(part))


def _hints(factory: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(factory.__init__, include_extras=True)
    except (NameError, TypeError):
        return {}


def _convert(value: Any, annotation: Any, where: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError
    from pydantic_core import SchemaError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
        return adapter.validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{where} is `{value}`: {error.errors()[0]['msg']}") from error
    except (PydanticSchemaGenerationError, SchemaError, TypeError):  # SchemaError: a protocol, which checks nothing
        return value
