"""Read what a user has (tables of URLs or pictures, folders, tars) as samples, bytes as found."""
