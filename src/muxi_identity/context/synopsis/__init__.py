"""The synopsis: a short description of a person, made from memories and preferences."""
