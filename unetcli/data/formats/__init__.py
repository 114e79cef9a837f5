"""Files of images, volumes and masks: what they hold, read and written."""
