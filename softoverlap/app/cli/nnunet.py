"""The command `nnunet`: where nnU-Net finds the trainers."""

from __future__ import annotations

from softoverlap.app.cli.app import app
from softoverlap.app.cli.console import one_line_errors, say


@app.command()
@one_line_errors
def nnunet() -> None:
    """Print the folder with trainers for nnU-Net, and nothing else.

    nnU-Net looks for trainers in the folders that nnUNet_extTrainer names, with a
    colon between two of them. The page "nnU-Net" of the documentation has the rest.

    export nnUNet_extTrainer=$(softoverlap nnunet)
    nnUNetv2_train 1 3d_fullres 0 -tr nnUNetTrainerSoftDiceCE
    """
    from softoverlap.for_nnunet import TRAINERS_FOLDER

    say(str(TRAINERS_FOLDER))
