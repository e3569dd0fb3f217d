"""glmdoctor: finds out why a machine cannot run ChatGLM models, repairs it, and proves that the repair holds."""

__version__ = "0.1.0"
