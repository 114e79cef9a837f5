"""Where data come from: the layouts that they are published in, one file a source."""
