"""The words that every room shares; standard library only.

`space` has the parameters (of `parameters`), `widening` says what holds all of it, `grid` what a finite search goes
through. `specification` is what a study was asked to do (`serving` its endpoint, `sections` how a section is read),
`trials` has states and decisions, `events` what stands in a journal, `exchange` what workers and study say to each
other, `seeds` where random numbers come from, `errors` the tree of what can go wrong. Modules are imported by name:
there is nothing here that would load them all.
"""
