"""Who may come in: bearer tokens with names, scopes and an end, TLS, and the audit log of refusals and changes."""
