"""What developers embed: the asynchronous client, the synchronous one generated from it, and their channels."""
