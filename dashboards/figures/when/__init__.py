"""When flat minima help: the forest, and gains over two factors."""
