"""nnU-Net looks for trainers here; `softoverlap nnunet` prints the folder."""

from softoverlap.for_nnunet.trainers import (
    nnUNetTrainerLesionwise as nnUNetTrainerLesionwise,
    nnUNetTrainerSoftDiceCE as nnUNetTrainerSoftDiceCE,
    nnUNetTrainerSoftRaters as nnUNetTrainerSoftRaters,
)
