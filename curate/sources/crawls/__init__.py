"""Read pairs of link and alt text out of WARC and WAT files."""
