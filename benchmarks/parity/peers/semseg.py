"""Writes a checkpoint and logits of the authors' PyTorch PSPNet.

    git clone https://github.com/hszhao/semseg
    python benchmarks/parity/peers/semseg.py --repository semseg --variant 50 --output out

Runs model/pspnet.py unchanged. Needs torch. Their network only accepts sizes of 8k + 1.
The numbered variants are saved as by tool/train.py, in a DataParallel and with the
optimizer's momentum; 50-plain is the network's bare `state_dict()`.
"""

import sys

import common
import torch

VARIANTS = ("50", "101", "152", "50-plain")

# tool/test.py:77-81, in units of pixels; tool/test.py:122-129 applies them to the RGB
# image that util/dataset.py:64 reads.
MEAN = [0.485 * 255, 0.456 * 255, 0.406 * 255]
DEVIATION = [0.229 * 255, 0.224 * 255, 0.225 * 255]


def build(options):
    sys.path.insert(0, str(options.repository))
    from model.pspnet import PSPNet

    network = PSPNet(
        layers=int(options.variant.split("-")[0]), classes=options.num_classes, pretrained=False
    )
    common.randomize_torch(network, options.seed)
    # So that the residual sum doesn't explode.
    blocks = [m for m in network.modules() if type(m).__name__ == "Bottleneck"]
    with torch.no_grad():
        for block in blocks:
            block.bn3.weight *= len(blocks) ** -0.5
    return network


def checkpoint(options, network):
    """Returns the content that tool/train.py:234 saves, or the bare state_dict."""
    if options.variant.endswith("-plain"):
        return network.state_dict()
    # tool/train.py:134-140; a step at learning rate zero creates momentum and changes no weight.
    backbone = [getattr(network, f"layer{i}") for i in range(5)]
    groups = [
        {"params": module.parameters(), "lr": 0.0}
        for module in [*backbone, network.ppm, network.cls, network.aux]
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=1e-4)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for i, group in enumerate(optimizer.param_groups):
        group["lr"] = 1e-5 if i < 5 else 1e-4
    wrapped = torch.nn.DataParallel(network)
    return {
        "epoch": 100,
        "state_dict": wrapped.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def main():
    options = common.arguments(__doc__, VARIANTS)
    network = build(options)
    files = ["train_epoch_100.pth"]
    common.save_torch(options, files[0], checkpoint(options, network))
    network.eval()

    @torch.no_grad()
    def logits(pixels):
        inputs = torch.from_numpy(pixels[0].transpose(2, 0, 1)).float()
        for channel, mean, deviation in zip(inputs, MEAN, DEVIATION, strict=True):
            channel.sub_(mean).div_(deviation)
        # At zoom_factor 8, the network upsamples to the full size itself.
        return network(inputs[None]).permute(0, 2, 3, 1).numpy()

    what = f"hszhao/semseg model/pspnet.py PSPNet in eval mode, torch {torch.__version__}"
    common.write(options, family="semseg", files=files, logits=logits, what=what)


if __name__ == "__main__":
    main()
