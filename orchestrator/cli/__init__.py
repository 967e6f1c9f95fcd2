"""The command line: `orchestrator run FILE` and what goes with it.

`program` finds a command by its name, loads its module only then, and turns errors into one line and an exit code.
Each command has a module of its own name (`run`, `stopping`, `serving`, `looking`, `checking`). `view` says in words
how a study stands, `live` and `plain` show that; `traffic` asks the endpoint meanwhile; `measuring` and `closing` make
the summary at the end.
"""

from orchestrator.cli.program import main

__all__ = ["main"]
