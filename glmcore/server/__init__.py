"""An OpenAI-compatible HTTP server: one engine, one answer at a time, everybody else in a queue."""
