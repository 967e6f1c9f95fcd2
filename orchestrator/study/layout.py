"""Where the parts of a study lie on its storage."""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.domain.errors import UnknownStudy, did_you_mean


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one study."""

    storage: Path
    study: str

    @property
    def root(self) -> Path:
        """The study's own directory."""
        return self.storage / self.study

    @property
    def journal(self) -> Path:
        """Everything that happened."""
        return self.root / "journal"

    @property
    def checkpoints(self) -> Path:
        """`<trial>/<step>/…`."""
        return self.root / "checkpoints"

    @property
    def bundles(self) -> Path:
        """`<bundle>/…`."""
        return self.root / "bundles"

    @property
    def summary(self) -> Path:
        """What came of it, for programs to read."""
        return self.root / "summary.json"

    def exists(self) -> bool:
        """Whether the study has a journal."""
        return self.journal.is_dir() and any(self.journal.iterdir())

    def require(self) -> "Layout":
        """Returns itself, or raises UnknownStudy naming the studies that are there."""
        if not self.exists():
            known = studies_on(self.storage)
            there = f"there: {', '.join(known)}" if known else "there are none"
            hint = did_you_mean(self.study, known)
            raise UnknownStudy(f"no study '{self.study}' on {self.storage}; {there}.{hint}")
        return self


def studies_on(storage: Path) -> list[str]:
    """Returns the names of the studies on a storage, sorted."""
    if not storage.is_dir():
        return []
    return sorted(
        path.name for path in storage.iterdir() if path.name != "endpoints" and Layout(storage, path.name).exists()
    )
