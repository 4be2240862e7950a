"""Telling others what happened: webhooks out of the outbox, and callbacks in this process.

``rows.py`` is the outbox as workers see it, ``signing.py`` and ``sending.py`` one delivery, ``delivery.py`` the
workers, ``callbacks.py`` those who listen in this process. What is written to the outbox, and when, is the matter of
:mod:`muxi_identity.identity.outbox`.
"""
