"""The gateway: one OpenAI endpoint, served by LiteLLM, before the engines of a release."""
