"""Hold the verbs of `curate`: each reads its arguments, calls one module and prints."""
