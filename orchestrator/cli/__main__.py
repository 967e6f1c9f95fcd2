"""`python -m orchestrator.cli`: the program, where its script is not on the path."""

from orchestrator.cli.program import main

main()
