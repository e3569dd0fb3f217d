"""glmcore: the runtime for the four generations of ChatGLM checkpoints, without remote code."""

__version__ = "0.1.0"
