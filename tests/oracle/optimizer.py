"""Reference numbers for src/train: optimizers, gradient clipping, learning rates.

Calls torch.optim, torch.nn.utils.clip_grad_norm_ and torch.optim.lr_scheduler. Writes
../fixtures/optimizer.safetensors. Gradients are given, not computed: a case is a list of steps.
"""

import torch
from common import save, seed
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR

STEPS = 6
# The learning rate changes between steps, as a schedule does: momentum must not absorb it.
RATES = [0.1, 0.1, 0.05, 0.05, 0.02, 0.01]
CASES = {
    "sgd": lambda p: SGD(p, lr=1.0),
    "sgd_momentum": lambda p: SGD(p, lr=1.0, momentum=0.9, weight_decay=1e-4),
    "sgd_strong_decay": lambda p: SGD(p, lr=1.0, momentum=0.9, weight_decay=0.1),
    "sgd_nesterov": lambda p: SGD(p, lr=1.0, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adamw": lambda p: AdamW(p, lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    "adamw_other": lambda p: AdamW(p, lr=1.0, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
}
# Biases have their own learning rate and weight decay: factor and decay, as in Detectron and detectron2.
BIASES = {"sgd_detectron": (2.0, 0.0), "sgd_decayed_biases": (1.0, 0.1)}
CLIP = 1.5


def optimizers(out):
    weight, bias = torch.randn(3, 5), torch.randn(3)
    # Step 2 has no gradient for the bias: the parameter and its moments are unchanged.
    weight_grads = torch.randn(STEPS, 3, 5) * torch.tensor([3.0, 1e-3, 1.0, 0.1, 1.0, 5.0]).view(-1, 1, 1)
    bias_grads = torch.randn(STEPS, 3)
    out |= {"weight": weight, "bias": bias, "weight_grads": weight_grads, "bias_grads": bias_grads}
    out["rates"] = torch.tensor(RATES)
    for name, build in CASES.items():
        parameters = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
        optimiser = build(parameters)
        history = [[], []]
        for step, rate in enumerate(RATES):
            parameters[0].grad = weight_grads[step].clone()
            parameters[1].grad = None if step == 2 else bias_grads[step].clone()
            optimiser.param_groups[0]["lr"] = rate
            optimiser.step()
            for values, parameter in zip(history, parameters):
                values.append(parameter.detach().clone())
        out[f"{name}.weight"], out[f"{name}.bias"] = map(torch.stack, history)


def biases(out):
    for name, (factor, decay) in BIASES.items():
        weight, bias = (out[key].clone().requires_grad_() for key in ("weight", "bias"))
        optimizer = SGD([{"params": [weight]}, {"params": [bias], "weight_decay": decay}], 1.0, 0.9, weight_decay=0.1)
        history = [[], []]
        for step, rate in enumerate(RATES):
            weight.grad = out["weight_grads"][step].clone()
            bias.grad = None if step == 2 else out["bias_grads"][step].clone()
            for group, scale in zip(optimizer.param_groups, (1.0, factor)):
                group["lr"] = rate * scale
            optimizer.step()
            for values, parameter in zip(history, (weight, bias)):
                values.append(parameter.detach().clone())
        out[f"{name}.weight"], out[f"{name}.bias"] = map(torch.stack, history)


def clipping(out):
    for step in range(STEPS):
        parameters = [torch.zeros(3, 5, requires_grad=True), torch.zeros(3, requires_grad=True)]
        parameters[0].grad = out["weight_grads"][step].clone()
        parameters[1].grad = out["bias_grads"][step].clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        out[f"clip_{step}.norm"] = norm
        out[f"clip_{step}.weight"], out[f"clip_{step}.bias"] = (p.grad for p in parameters)


def rates(scheduler_of, steps):
    optimiser = SGD([torch.zeros(1)], lr=0.02)
    step = scheduler_of(optimiser)
    seen = []
    for iteration in range(steps):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        step(iteration)
    return torch.tensor(seen, dtype=torch.float64).float()


def detection_schedule(optimiser):
    """As torchvision's detection reference: warm-up inside epoch 0, milestones in epochs of 7 iterations."""
    warmup = LinearLR(optimiser, start_factor=1 / 1000, total_iters=min(1000, 7 - 1))
    steps = MultiStepLR(optimiser, milestones=[3, 5], gamma=0.1)

    def step(iteration):
        if iteration < 7:
            warmup.step()
        if (iteration + 1) % 7 == 0:
            steps.step()

    return step


def cosine_schedule(optimiser):
    cosine = CosineAnnealingLR(optimiser, T_max=40, eta_min=0.0002)
    return lambda _: cosine.step()


seed(20)
out = {}
optimizers(out)
biases(out)
clipping(out)
out["rates.multi_step"] = rates(detection_schedule, 49)
out["rates.cosine"] = rates(cosine_schedule, 41)
save("optimizer.safetensors", out)
