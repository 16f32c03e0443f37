"""Labels as the tools write them with which people draw: labelme, COCO, CVAT and others.

Each file reads one tool's format, and draws its shapes as that tool does.
"""
