"""Files in and out: dataset sources, the manifest, MindRecord, images, training patches."""
