"""MONAI's RetinaNet on soft lesions: network, anchors, targets, losses."""
