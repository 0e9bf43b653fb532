"""The table of cases. It does not depend on either side."""

from dataclasses import dataclass, replace


# Engines of runtime_side.py.
RUNTIMES = ("onnxruntime", "openvino", "openvino-bf16")
INFERENCE = ("torchvision", "torchvision-bf16", *RUNTIMES)
TRAINING = ("torchvision", "torchvision-bf16")


@dataclass(frozen=True)
class Case:
    """One task that both sides run."""

    name: str
    # Kind of task: classify, detect, predict, train, recipe, load or evaluate.
    kind: str
    # A name of networks.py; cases of one network share its weights.
    network: str = ""
    # Height and width of the input, in pixels.
    size: tuple[int, int] = (0, 0)
    # Processes (torchvision) or threads (sedet) that prepare images.
    workers: int = 0
    # Untimed and timed repetitions within a process.
    warmup: int = 2
    iterations: int = 7
    # The references; each is compared with sedet.
    references: tuple[str, ...] = ("torchvision",)

    @property
    def runtimes(self):
        """The references that run an ONNX file."""
        return [reference for reference in self.references if reference in RUNTIMES]


def _classifier(network, iterations):
    return Case(f"{network} infer 224", "classify", network, (224, 224), warmup=3, iterations=iterations, references=INFERENCE)


def _detector(network, kind, height, width, warmup, iterations):
    word, references = {"detect": ("infer", INFERENCE), "train": ("train", TRAINING)}[kind]
    name = f"{network} {word} {height}x{width}"
    return Case(name, kind, network, (height, width), warmup=warmup, iterations=iterations, references=references)


CASES = (
    _classifier("resnet50", 25),
    _classifier("se-resnet50", 25),
    _classifier("se-resnext50", 25),
    _classifier("mobilenet-v1", 40),
    _detector("resnet50-fpn", "detect", 480, 640, 1, 5),
    _detector("resnet50-fpn", "detect", 800, 1088, 1, 3),
    _detector("se-resnet50-fpn", "detect", 480, 640, 1, 5),
    _detector("se-resnet50-fpn", "detect", 800, 1088, 1, 3),
    Case(
        "resnet50-fpn images", "predict", "resnet50-fpn", warmup=0, iterations=1, references=("torchvision", *RUNTIMES)
    ),
    _detector("resnet50-fpn", "train", 512, 512, 1, 3),
    _detector("resnet50-fpn", "train", 800, 800, 1, 3),
    _detector("se-resnet50-fpn", "train", 512, 512, 1, 3),
    _detector("se-resnet50-fpn", "train", 800, 800, 1, 3),
    Case("quick-start step", "recipe", "quick-start", warmup=4, iterations=25),
    Case("loader, 0 workers", "load", workers=0, warmup=1, iterations=2),
    Case("loader, 1 worker", "load", workers=1, warmup=1, iterations=2),
    Case("loader, 2 workers", "load", workers=2, warmup=1, iterations=2),
    Case(
        "COCO evaluation", "evaluate", warmup=0, iterations=1, references=("pycocotools", "faster-coco-eval")
    ),
)


def chosen(patterns, references=None):
    """Returns the cases whose name contains one of these strings, in the order of the table; all if there are none.

    With `references`, only these of each case are measured, and cases without one of them are left out."""
    if references:
        known = sorted({reference for case in CASES for reference in case.references})
        for reference in references:
            if reference not in known:
                raise SystemExit(f'no reference is called "{reference}"; there are {", ".join(known)}')
        kept = [
            replace(case, references=tuple(name for name in case.references if name in references))
            for case in chosen(patterns)
        ]
        return [case for case in kept if case.references]
    if not patterns:
        return list(CASES)
    for pattern in patterns:
        if not any(pattern in case.name for case in CASES):
            known = "\n  ".join(case.name for case in CASES)
            raise SystemExit(f'no case has "{pattern}" in its name; there are\n  {known}')
    return [case for case in CASES if any(pattern in case.name for pattern in patterns)]


def by_name(name):
    """Returns the case with exactly this name."""
    return next(case for case in CASES if case.name == name)
