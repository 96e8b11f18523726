"""The values that the paper prints, and the stand-ins for its data.

``PUBLISHED`` holds the values of Tables 2-5: errors in layers 1-8 and in total, by table and curvature.
"""

from suites.harness.training.experiment import Task

LABELS = {"fisher": "Fisher", "gauss_newton": "GN", "pch1": "PCH-1", "pch2": "PCH-2"}  # as its tables and figures
TOTAL = "Total"
TRAIN_IMAGES = {"cifar10": 50_000}  # of the data set as published

PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "table2": {
        "fisher": (0.0071, 0.0470, 0.1140, 0.0726, 0.0397, 0.0219, 0.0185, 0.0251, 0.1535),
        "gauss_newton": (0.0057, 0.0212, 0.0220, 0.0207, 0.0130, 0.0107, 0.0176, 0.0000, 0.0446),
        "pch1": (0.0036, 0.0237, 0.0238, 0.0119, 0.0086, 0.0093, 0.0132, 0.0000, 0.0402),
        "pch2": (0.0043, 0.0228, 0.0165, 0.0085, 0.0066, 0.0071, 0.0106, 0.0000, 0.0330),
    },
    "table3": {
        "fisher": (0.0012, 0.0240, 0.0409, 0.0390, 0.0327, 0.0279, 0.0290, 0.0427, 0.0910),
        "gauss_newton": (0.0011, 0.0151, 0.0186, 0.0149, 0.0132, 0.0159, 0.0260, 0.0000, 0.0436),
        "pch1": (0.0003, 0.0146, 0.0198, 0.0137, 0.0115, 0.0142, 0.0259, 0.0000, 0.0424),
        "pch2": (0.0009, 0.0132, 0.0174, 0.0160, 0.0112, 0.0128, 0.0183, 0.0000, 0.0369),
    },
    "table4": {
        "fisher": (0.0044, 0.0192, 0.0528, 0.0449, 0.0330, 0.0294, 0.0331, 0.0781, 0.1198),
        "pch1": (0.0035, 0.0179, 0.0185, 0.0129, 0.0092, 0.0097, 0.0140, 0.0000, 0.0349),
        "pch2": (0.0049, 0.0456, 0.0502, 0.0344, 0.0261, 0.0198, 0.0198, 0.0000, 0.0853),
    },
    "table5": {
        "fisher": (0.0003, 0.0116, 0.0258, 0.0248, 0.0157, 0.0147, 0.0219, 0.0734, 0.0880),
        "pch1": (0.0002, 0.0226, 0.0264, 0.0285, 0.0284, 0.0214, 0.0172, 0.0000, 0.0598),
        "pch2": (0.0003, 0.0253, 0.0300, 0.0326, 0.0308, 0.0227, 0.0171, 0.0000, 0.0660),
    },
}


def stand_ins(task: Task, dataset: str) -> list[str]:
    """The stand-ins for the paper's images of a data set; empty if they are the same."""
    have, published = len(task.dataset.train), TRAIN_IMAGES.get(task.dataset.name)
    if task.dataset.name != dataset:
        return [f"{task.dataset.name} in place of {dataset}, network {'-'.join(map(str, task.settings.network))}"]
    return [f"{have} training images in place of {published}"] if published and have != published else []
