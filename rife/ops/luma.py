"""Weighs red, green and blue as the eye does, for whatever compares pictures by their brightness."""

LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601, as the papers' and OpenCV's grey pictures
