"""Functions of arrays: tiling, measures, augmentation, splits. No files, no MindSpore."""
