"""Study files: YAML for people, a specification in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.domain.errors import InvalidSpace, InvalidSpecification
from orchestrator.domain.space import Space
from orchestrator.domain.specification import StudySpecification


def read_study_file(path: Path, changes: Mapping[str, Any] | None = None) -> StudySpecification:
    """Returns the study that a file describes; `changes` are laid over its top-level keys, one section deep.

    Raises:
        InvalidSpecification: there is no such file, it is not YAML, or it cannot be understood.
        InvalidSpace: its space makes no sense.
    """
    given = _yaml(path)
    if isinstance(given, Mapping) and changes:
        given = _laid_over(given, changes)
    if isinstance(given, Mapping):
        given = _with_source_found(given, path.parent)
    try:
        return StudySpecification.from_dict(given)
    except InvalidSpecification as error:
        raise type(error)(f"{path}: {error}") from None


def read_space(text: str, study: str) -> Space:
    """Returns the space in a file: a whole study file of that study, its `space:` section, or the parameters alone.

    Text that begins with a brace is the parameters themselves, in YAML or JSON.

    Raises:
        InvalidSpecification: there is no such file, it is not YAML, or it is the file of another study.
        InvalidSpace: its space makes no sense.
    """
    path = Path(text)
    is_file = not text.lstrip().startswith("{")
    given = _yaml(path) if is_file else _parsed("the space", text)
    if isinstance(given, Mapping) and "space" in given and (given.keys() <= {"space"} or "objective" in given):
        named = given.get("study", study)
        if named != study:
            raise InvalidSpecification(f"{path} is the file of study '{named}', not of '{study}'")
        given = given["space"]
    try:
        return Space.from_dict(given)
    except InvalidSpace as error:
        raise InvalidSpace(f"{path if is_file else 'the space'}: {error}") from None


def _yaml(path: Path) -> Any:
    try:
        return _parsed(f"study file {path}", path.read_text())
    except OSError as error:
        raise InvalidSpecification(f"study file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSpecification(f"study file {path} is not YAML: {error}") from error


def _parsed(what: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidSpecification(f"{what} is not YAML: {error}") from error


def _laid_over(given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    whole = dict(given)
    for key, value in changes.items():
        old = whole.get(key)
        whole[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return whole


def _with_source_found(given: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Returns the study with the address of a data file made absolute: trials run in other directories.

    A relative one is looked for beside the study file, then where the command was called.
    """
    data = given.get("data")
    section = data if isinstance(data, Mapping) else {"source": data}
    source = section.get("source")
    if not isinstance(source, str) or "://" in source or not _is_table_file(source):
        return given
    places = [folder / Path(source).expanduser(), Path(source).expanduser()]
    found = next((place for place in places if place.exists()), places[0])
    return {**given, "data": {**section, "source": str(found.absolute())}}


def _is_table_file(source: str) -> bool:
    from trainables.table_files import is_table_file  # loads pyarrow's readers, which most studies do not need

    return is_table_file(source)


def study_file(specification: StudySpecification) -> str:
    """Returns the text of the resolved study, every default filled in."""
    text: str = yaml.safe_dump(specification.to_dict(), sort_keys=False, allow_unicode=True)
    return text
