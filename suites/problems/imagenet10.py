"""Ten classes of ImageNet with the paper's network, from folders of images."""

from pathlib import Path

from suites.harness.data.images import class_names, find_folders, missing, read_folders
from suites.harness.data.problem import Arrays, Problem


def read(root: Path, seed: int, download: bool) -> Arrays:
    """``{train,val}/<class>/`` in ``root/imagenet10``, ``root/imagenet`` or ``root``.

    If there are more than ten classes, the seed draws ten. Images of another size are resized to 224 x 224.
    """
    import torch  # imported late: readers of records need none

    places = (root / "imagenet10", root / "imagenet", root)
    folders = find_folders(places, ("val", "test"))  # ImageNet's own test folder has no labels
    if folders is None:
        raise missing("imagenet10", places, "imagenet10/{train,val}/<wnid>/ with images of ten ImageNet classes")
    classes = class_names(*folders)
    if len(classes) > 10:
        drawn = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))[:10]
        classes = sorted(classes[i] for i in drawn.tolist())
    return read_folders(folders, classes, 224, resize=True)


problem = Problem(
    summary="real images of ten ImageNet classes, 224x224x3, from a folder",
    network=(150528, 1024, 512, 256, 128, 64, 32, 16, 10),
    read=read,
    targets=(0.30,),
    channels=3,
)
