"""The API: what an InferenceEndpoint and an ApiKey are, as a model and as a CRD."""
