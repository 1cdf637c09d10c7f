"""What MONAI's engines need to train and judge the detector."""
