"""Which version answers, and why: an endpoint's state as a fold over its journal, and decisions about a challenger.

`state` folds the events (in the words of `versions`), `decisions` makes them, `judge` looks at a challenger by its
`evidence` through `sequential` tests, `ledger` keeps journal and state in step, `history` reads it all back. Pure, the
journal aside: no Ray, no clock.
"""
