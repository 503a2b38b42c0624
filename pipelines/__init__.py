"""Wire the stages into pipelines and the `curate` command."""
