"""Preferences: values by key that follow the person."""
