"""Read what a user has (URL tables, folders, WebDataset tars) as samples with original bytes."""
