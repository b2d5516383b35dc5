"""`/v1/responses`, as the newest SDKs and the Codex CLI use it."""
