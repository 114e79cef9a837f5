"""What is installed here and what this machine has: whether `unet` can work, and what to do where it cannot.

Nothing here imports what it looks at, so that it works where those packages are missing or broken; what must be
imported to be known, a process of its own imports.
"""
