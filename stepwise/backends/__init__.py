"""Backends run models. Each implements the protocol in `stepwise.engine.backend`, and has `options`."""
