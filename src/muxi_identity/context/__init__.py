"""What follows the person, and what stays with its session. One folder for each kind of thing.

In each, ``rows.py`` holds what is done inside a transaction and ``service.py`` the operations: they check what they
are given, and begin and commit. ``access.py`` is how an operation finds its person, ``guard.py`` what keeps it from
writing under another one.
"""
