"""agentroute for LlamaIndex: LLMs that pick the right model for each call."""
