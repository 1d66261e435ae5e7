"""The live dashboard: figures of the whole portal, for everybody, the same for everybody."""
