"""Labels in the formats of labeling tools: labelme, COCO, CVAT and others.

Each file reads one tool's format and draws its shapes as that tool does.
"""
