"""Read tables of URLs or of pictures, row by row, whatever they are written in."""
