"""Models behind a server, by the servers' own interfaces or OpenAI's, and what to do when they fail."""
