"""From a message to a reply: the responders and the chat turn."""
