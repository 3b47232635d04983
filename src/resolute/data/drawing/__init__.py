"""Draw pedestrians and streets with numpy and Pillow, for the data set ``synthetic``."""
