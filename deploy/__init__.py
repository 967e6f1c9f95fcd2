"""Serving: model packages and the endpoint that answers from them."""
