"""From messages to an answer: sampling, the runner that holds the cache, and the engine that users call."""
