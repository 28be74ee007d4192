"""``make demo``: from nothing to an answer of real vLLM through the OpenAI SDK, step by step.

The steps are functions with explicit parameters; the end-to-end tests take the same ones.
"""
