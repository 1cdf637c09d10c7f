"""nnU-Net looks for trainers here; `softoverlap nnunet` prints the folder."""

from softoverlap.for_nnunet.trainers import (
    nnUNetTrainerSoftDiceCE as nnUNetTrainerSoftDiceCE,
    nnUNetTrainerSoftRaters as nnUNetTrainerSoftRaters,
)
