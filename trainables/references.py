"""From the text that names a piece of the user's code to the object, with errors that help.

Three forms: `package.module.Name` (or the module alone), `package.module:Name`, and `path/to/file.py:Name`.
"""

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from orchestrator.domain.errors import InvalidInput, did_you_mean


@dataclass(frozen=True, slots=True)
class Found:
    """An object, and the module in which the reference found it."""

    value: object
    module: ModuleType


def find(reference: str, error: type[InvalidInput]) -> Found:
    """Returns the object that `reference` names; imports its module, and so runs the module's code.

    Raises:
        InvalidInput: of the kind `error`: there is no such module or name, or the module fails when imported.
    """
    place, colon, name = reference.rpartition(":")
    if not reference.strip() or (colon and not (place and name)):
        raise error(f"'{reference}' names nothing; give 'package.module.Name', 'module:name' or 'path/to/file.py:name'")
    if place.endswith(".py"):
        return _attribute(_import_file(Path(place), error), name, reference, error)
    if colon:
        return _attribute(_import_module(place, reference, error), name, reference, error)
    if reference.endswith(".py"):
        raise error(f"'{reference}' is a file; say which name in it: '{reference}:name'")
    return _find_dotted(reference, error)


def source_sha256(value: object) -> str:
    """Returns the hash of the file that defines `value`, or of its byte code where there is no file."""
    try:
        path = inspect.getsourcefile(value if isinstance(value, ModuleType) else inspect.unwrap(value))  # type: ignore[arg-type]
        if path is not None and Path(path).is_file():
            return sha256(Path(path).read_bytes()).hexdigest()
    except TypeError:
        pass  # a callable object: its class has the source
    code = getattr(value, "__code__", None)
    if code is not None:
        return sha256(code.co_code + repr(code.co_consts).encode()).hexdigest()
    if not isinstance(value, type):
        return source_sha256(type(value))
    return sha256(value.__qualname__.encode()).hexdigest()


def _find_dotted(reference: str, error: type[InvalidInput]) -> Found:
    parts = reference.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if _exists(name, error):
            found = Found(module := _import_module(name, reference, error), module)
            for attribute in parts[length:]:
                found = _attribute(found.module, attribute, reference, error, inside=found.value)
            return found
    raise _no_module(parts[0], reference, error)


def _exists(name: str, error: type[InvalidInput]) -> bool:
    """Whether there is such a module; imports its parents, whose own faults must not look like its absence."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as missing:
        if missing.name is not None and (name == missing.name or name.startswith(missing.name + ".")):
            return False
        raise _fails(name, missing, error) from missing
    except ValueError:  # `__main__` and its like have no spec
        return False
    except Exception as failure:
        raise _fails(name, failure, error) from failure


def _import_module(name: str, reference: str, error: type[InvalidInput]) -> ModuleType:
    if not _exists(name, error):
        raise _no_module(name, reference, error)
    try:
        return importlib.import_module(name)
    except Exception as failure:
        raise _fails(name, failure, error) from failure


def _import_file(path: Path, error: type[InvalidInput]) -> ModuleType:
    """Imports a file once a content, as a module of its own; modules beside it can be imported by it."""
    if not path.is_file():
        near = did_you_mean(path.name, [other.name for other in path.parent.glob("*.py")])
        raise error(f"there is no file '{path}' (looked in {path.parent.resolve()}).{near}")
    content = sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"{path.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise error(f"'{path}' cannot be imported; give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as failure:
        del sys.modules[name]
        raise _fails(str(path), failure, error) from failure
    return module


def _attribute(
    module: ModuleType, name: str, reference: str, error: type[InvalidInput], inside: object = None
) -> Found:
    holder = module if inside is None else inside
    try:
        value = getattr(holder, name)
    except AttributeError:
        names = [known for known in dir(holder) if not known.startswith("_")]
        raise error(
            f"'{reference}': {getattr(holder, '__name__', holder)} has no '{name}'.{did_you_mean(name, names)} "
            "Check the name"
        ) from None
    return Found(value, value if isinstance(value, ModuleType) else module)


def _no_module(name: str, reference: str, error: type[InvalidInput]) -> InvalidInput:
    near = did_you_mean(name, sys.modules)
    return error(
        f"'{reference}': there is no module '{name}'.{near} Install it, run from the folder that holds it, "
        "or name a file: 'path/to/file.py:name'"
    )


def _fails(name: str, failure: Exception, error: type[InvalidInput]) -> InvalidInput:
    return error(f"'{name}' fails when imported: {type(failure).__name__}: {failure}; see the traceback above")
