"""Tools of the developers: the local cluster, the images for it and the demo."""
