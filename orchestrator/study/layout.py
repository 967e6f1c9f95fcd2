"""Where the parts of a study lie on its storage."""

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.domain.errors import UnknownStudy, did_you_mean
from orchestrator.journal import AnyStorage, Storage


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of one study, on a disk or in an object store."""

    SUMMARY: ClassVar[str] = "summary.json"  # in `root`: what came of it, for programs to read
    STUDY_FILE: ClassVar[str] = "study.yaml"  # in `root`: what was asked for, resolved

    storage: AnyStorage
    study: str

    @property
    def root(self) -> Storage:
        """The study's own folder."""
        return Storage.of(self.storage).child(self.study)

    @property
    def journal(self) -> Storage:
        """Everything that happened."""
        return self.root.child("journal")

    @property
    def checkpoints(self) -> Storage:
        """`<trial>/<step>/…`."""
        return self.root.child("checkpoints")

    @property
    def bundles(self) -> Storage:
        """`<bundle>/…`."""
        return self.root.child("bundles")

    def exists(self) -> bool:
        """Whether the study has a journal."""
        return self.root.exists("journal")

    def require(self) -> "Layout":
        """Returns itself, or raises UnknownStudy naming the studies that are there."""
        if not self.exists():
            known = studies_on(self.storage)
            there = f"there: {', '.join(known)}" if known else "there are none"
            hint = did_you_mean(self.study, known)
            raise UnknownStudy(f"no study '{self.study}' on {self.storage}; {there}.{hint}")
        return self


def studies_on(storage: AnyStorage) -> list[str]:
    """Returns the names of the studies on a storage, sorted."""
    place = Storage.of(storage)
    names = [name for name in place.folders() if name != "endpoints" and "?" not in name]
    return [name for name in names if Layout(place, name).exists()]
