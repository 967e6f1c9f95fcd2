"""Every error that this program raises on purpose.

OrchestratorError
├── InvalidInput              what was given cannot be used (exit code 2)
│   ├── InvalidSpace          a parameter, its range or its condition
│   ├── InvalidSpecification  a study file or its Python form
│   └── InvalidTrainable      the user's code does not keep the trainable's contract
├── StorageError              the storage cannot be used
│   ├── NotAsPublished        a published folder is gone, or is not what it was
│   ├── JournalDamaged        a record in the middle of a journal does not check
│   └── JournalTooNew         written by a newer version of this program
├── BundleError               a model package is damaged, edited or not equal to its model
├── StudyBusy                 another driver or writer has this study
├── UnknownStudy              no such study on this storage
├── ClusterError              Ray cannot be reached, started, or has no room
│   └── SessionLost           the local Ray has died; a new one goes on from the storage
├── EndpointError             the endpoint cannot be reached or refuses
│   ├── UnknownVersion        it has no version of that number, or none to go back to
│   ├── AnswersAlready        the version that was to be tried answers all requests
│   └── RequestRefused        it answered with a status that is no success (in deploy.client)
├── ExchangeRefused           a message from a worker or writer whose time is over
└── InvalidTransition         a trial cannot do this in its state (a fault of ours)

A message says what was given, what is allowed, and what to do now.
"""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_WORD = 200  # characters; a longer one is no slip of a name, and to compare it takes seconds a megabyte


class OrchestratorError(Exception):
    """The root of the tree; `exit_code` is what the command line ends with."""

    exit_code = 1


class InvalidInput(OrchestratorError):
    """What was given cannot be used."""

    exit_code = 2


class InvalidSpace(InvalidInput):
    """A parameter's range, values or condition make no sense."""


class InvalidSpecification(InvalidInput):
    """A study file, or its Python form, cannot be understood."""


class InvalidTrainable(InvalidInput):
    """The user's code does not keep the contract of a trainable."""


class StorageError(OrchestratorError):
    """The storage cannot be read or written."""


class NotAsPublished(StorageError):
    """A published folder is gone, or is not what it was: trying again will not help."""


class JournalDamaged(StorageError):
    """A record in the middle of a journal does not check; a torn tail is not this error."""


class JournalTooNew(StorageError):
    """The journal was written by a newer version of this program."""


class BundleError(OrchestratorError):
    """A model package is damaged, edited by hand, or not equal to the model it came from."""


class StudyBusy(OrchestratorError):
    """Another driver or writer has this study."""


class UnknownStudy(InvalidInput):
    """There is no such study on this storage."""


class ClusterError(OrchestratorError):
    """Ray cannot be reached, cannot be started, or has no room."""


class SessionLost(ClusterError):
    """The local Ray has died; the study goes on in a new one, from its storage."""


class EndpointError(OrchestratorError):
    """The endpoint cannot be reached, or refuses."""


class AnswersAlready(EndpointError):
    """The version that was to be tried answers all requests."""


class UnknownVersion(EndpointError):
    """The endpoint has no version of that number, or none to go back to."""


class ExchangeRefused(OrchestratorError):
    """A message from a worker or a writer whose time is over."""


class InvalidTransition(OrchestratorError):
    """A trial cannot do this in its state."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known word, else an empty string."""
    if len(given) > LONGEST_WORD:
        return ""
    near = get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
