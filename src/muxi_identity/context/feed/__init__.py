"""What happens to people, as it happens: told to whoever listens, whichever process it came from."""
