"""The gates of timm's SE modules, recorded by forward hooks.

Run from the repository's root, after layouts.py:  python tests/oracle/excitation.py
The network is that of tests/fixtures/layouts/timm_seresnet.pt, its input `input_75x103` beside it. Writes
tests/fixtures/excitation.safetensors: `layerS.B.se` [1, channels, 1, 1], the output of the sigmoid of that SE module.
"""

import safetensors.torch
import torch

import common
from layouts import FOLDER, networks


def main():
    network = next(network for name, network, _, _ in networks() if name == "timm_seresnet.pt")
    network.body.load_state_dict(torch.load(FOLDER / "timm_seresnet.pt", weights_only=True))
    x = safetensors.torch.load_file(FOLDER / "outputs.safetensors")["input_75x103"]
    named = network.body.named_modules()
    gates = {name.removesuffix(".gate"): module for name, module in named if name.endswith(".se.gate")}
    with torch.no_grad(), common.recorded_outputs(gates) as seen:
        network.eval()(x)
    common.save("excitation.safetensors", seen)


if __name__ == "__main__":
    main()
