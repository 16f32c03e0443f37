"""Writes an encoder's and a decoder's file of CSAILVision, and their logits.

    git clone https://github.com/CSAILVision/semantic-segmentation-pytorch
    python benchmarks/parity/peers/csail.py --repository semantic-segmentation-pytorch \
        --variant resnet50dilated-ppm_deepsup --output out

Needs torch. Builds the project's networks and runs the reference on what its `ModelBuilder`
reads from the two files, as its test.py does, but at the image's size: test.py also resizes to
several sizes, multiples of 8, and averages the probabilities.
"""

import sys

import common

VARIANTS = (
    "resnet18dilated-ppm_deepsup",
    "resnet50dilated-ppm",
    "resnet50dilated-ppm_deepsup",
    "resnet101dilated-ppm_deepsup",
)


def randomize(module, seed):
    import torch

    common.randomize_torch(module, seed)
    common.calm_residuals(module)
    with torch.no_grad():
        for layer in module.modules():
            if hasattr(layer, "_running_iter"):
                # The synchronized BatchNorm's sums (lib/nn/modules/batchnorm.py), whose
                # quotients are running_mean and running_var, as after long training.
                layer._running_iter.fill_(500.0)
                layer._tmp_running_mean.copy_(layer.running_mean * 500)
                layer._tmp_running_var.copy_(layer.running_var * 500)


def main():
    options = common.arguments(__doc__.splitlines()[0], VARIANTS)
    if options.repository is None:
        raise SystemExit("--repository is needed: a checkout of semantic-segmentation-pytorch")
    sys.path.insert(0, str(options.repository))
    import mit_semseg
    import torch
    from mit_semseg.models import ModelBuilder, models, resnet

    encoder_name, decoder_name = options.variant.split("-")
    # config/ade20k-resnet18dilated-ppm_deepsup.yaml and its siblings
    fc_dim = 512 if encoder_name == "resnet18dilated" else 2048
    decoder_options = {"arch": decoder_name, "fc_dim": fc_dim, "num_class": options.num_classes}

    # As in build_encoder, without its download of ImageNet weights.
    whole = getattr(resnet, encoder_name.removesuffix("dilated"))(pretrained=False)
    encoder = models.ResnetDilated(whole, dilate_scale=8)
    decoder = ModelBuilder.build_decoder(**decoder_options)
    randomize(encoder, options.seed)
    randomize(decoder, options.seed + 1)

    files = {"encoder_epoch_20.pth": encoder, "decoder_epoch_20.pth": decoder}
    for name, network in files.items():  # train.py, checkpoint()
        common.save_torch(options, name, network.state_dict())

    encoder_file, decoder_file = (str(options.output / name) for name in files)
    encoder = ModelBuilder.build_encoder(encoder_name, fc_dim, weights=encoder_file).eval()
    decoder = ModelBuilder.build_decoder(
        **decoder_options, weights=decoder_file, use_softmax=True
    ).eval()
    # The decoder ends in a softmax, so a hook collects the scores before it.
    last = []
    decoder.conv_last.register_forward_hook(lambda layer, inputs, output: last.append(output))

    def logits(pixels):
        # mit_semseg/dataset.py, BaseDataset.img_transform: RGB, 0..1, then mean and deviation.
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0 - mean) / deviation
        size = tuple(images.shape[2:])
        with torch.no_grad():
            expected = decoder(encoder(images, return_feature_maps=True), segSize=size)
            # The resize of PPM.forward and PPMDeepsup.forward in mit_semseg/models/models.py.
            scores = torch.nn.functional.interpolate(
                last.pop(), size=size, mode="bilinear", align_corners=False
            )
            torch.testing.assert_close(scores.softmax(dim=1), expected)
        return scores.permute(0, 2, 3, 1).numpy()

    common.write(
        options,
        family="csail",
        files=list(files),
        logits=logits,
        what=f"mit_semseg {mit_semseg.__version__} {encoder_name} + {decoder_name} in evaluation "
        f"mode, scores before its softmax, one scale; torch {torch.__version__}",
    )


if __name__ == "__main__":
    main()
