"""An OpenAI-compatible HTTP server: one engine, several answers at a time, everybody else in a queue."""
