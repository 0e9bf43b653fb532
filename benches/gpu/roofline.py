#!/usr/bin/env python3
"""Prints the table of docs/gpu.md: multiply-adds, bytes, kernel launches and the shortest times of a training step.

The step is that of the recipe coco-torchvision: ResNet-50 with frozen norms, stem and first stage not trained, FPN,
512 sampled boxes an image, SGD with momentum. A time is the larger of arithmetic and memory, plus the optimizer; the
launches are stated beside it, since the host issues them while the card computes. No number here was measured.
"""

HEIGHT, WIDTH = 800, 1344
BOXES = 512
CLASSES = 91
LAUNCH_MICROSECONDS = 5
# Published peaks without sparsity in TFLOP/s, where a multiply-add is two operations, and bytes a second.
CARDS = {
    "H100 SXM": {"tf32": 494.7, "bf16": 989.4, "bandwidth": 3.35e12},
    "RTX 4090": {"tf32": 82.6, "bf16": 165.2, "bandwidth": 1.008e12},
}


class Work:
    """Multiply-adds, float elements that are written, and convolutions."""

    def __init__(self):
        self.macs = self.elements = self.parameters = self.convolutions = 0

    def conv(self, pixels, channels_in, channels_out, kernel=1):
        weights = channels_in * channels_out * kernel * kernel
        self.macs += weights * pixels
        self.elements += channels_out * pixels
        self.parameters += weights
        self.convolutions += 1


def pixels_at(stride):
    return (HEIGHT // stride) * (WIDTH // stride)


def backbone():
    """Returns the frozen and the trained part of ResNet-50; the stride is that of the 3x3 convolution."""
    frozen, trained = Work(), Work()
    frozen.conv(pixels_at(2), 3, 64, 7)
    channels = 64
    for stage, blocks in enumerate([3, 4, 6, 3]):
        part = frozen if stage == 0 else trained
        width, stride = 64 << stage, 4 << stage
        for block in range(blocks):
            before = stride // 2 if stage > 0 and block == 0 else stride
            part.conv(pixels_at(before), channels, width)
            part.conv(pixels_at(stride), width, width, 3)
            part.conv(pixels_at(stride), width, width * 4)
            if block == 0:
                part.conv(pixels_at(stride), channels, width * 4)
            channels = width * 4
    return frozen, trained


def heads():
    work = Work()
    for level, channels in enumerate([256, 512, 1024, 2048]):
        work.conv(pixels_at(4 << level), channels, 256)
        work.conv(pixels_at(4 << level), 256, 256, 3)
    # One head for all levels: its parameters count once.
    before = work.parameters
    for level in range(5):
        work.conv(pixels_at(4 << level), 256, 256, 3)
        work.conv(pixels_at(4 << level), 256, 15)
    work.parameters = before + 256 * 256 * 9 + 256 * 15
    for inputs, outputs in [(12544, 1024), (1024, 1024), (1024, CLASSES * 5)]:
        work.conv(BOXES, inputs, outputs)
    return work


def main():
    frozen, trained = backbone()
    head = heads()
    forward = frozen.macs + trained.macs + head.macs
    # The gradients of inputs and of weights cost as much as the forward pass each.
    macs = forward + 2 * (trained.macs + head.macs)
    # Forward: a convolution writes, the norm with ReLU reads and writes, the next one reads. Backward: the norm reads the
    # gradient and the output and writes; both gradients of a convolution read the gradient, and one writes, one reads.
    elements = 4 * (frozen.elements + trained.elements + head.elements)
    elements += 7 * (trained.elements + head.elements)
    # The corners of all samples of RoIAlign, mostly from the cache, and its gradient.
    elements += 2 * BOXES * 49 * 256 * (4 * 4 + 1)
    parameters = trained.parameters + head.parameters
    optimizer = 5 * 4 * parameters
    print(f"forward {forward / 1e9:.0f} G multiply-adds an image, step {macs / 1e9:.0f} G; "
          f"{4 * elements / 1e9:.1f} GB an image in f32; {parameters / 1e6:.1f} M trained parameters\n")
    layers = frozen.convolutions + trained.convolutions
    launches = {
        # Five small operations make scale and shift of a frozen norm in each step.
        "backbone": layers * (1 + 1 + 5) + trained.convolutions * 3,
        "FPN, RPN and heads": head.convolutions * 2 + head.convolutions * 3 + 30,
        "losses, sampling": 80,
        "optimizer": (trained.convolutions + head.convolutions) * 2 * 5,
    }
    total = sum(launches.values())
    print("launches: " + ", ".join(f"{name} {number}" for name, number in launches.items())
          + f"; {total} in all, {total * LAUNCH_MICROSECONDS / 1e3:.1f} ms of the host\n")
    print("| card | precision | batch | arithmetic | memory | optimizer | shortest step | images/s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for card, speeds in CARDS.items():
        for precision, size in [("tf32", 4), ("bf16", 2)]:
            for batch in [1, 2, 8]:
                arithmetic = batch * 2 * macs / (speeds[precision] * 1e12)
                memory = batch * size * elements / speeds["bandwidth"]
                update = optimizer / speeds["bandwidth"]
                step = max(arithmetic, memory) + update
                cells = [f"{1e3 * seconds:.1f} ms" for seconds in (arithmetic, memory, update, step)]
                print(f"| {card} | {precision} | {batch} | {' | '.join(cells)} | {batch / step:.0f} |")


if __name__ == "__main__":
    main()
