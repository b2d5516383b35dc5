"""A daemon that serves Gemma 3, text and images, behind an OpenAI-compatible API."""

__version__ = "0.1.0"
