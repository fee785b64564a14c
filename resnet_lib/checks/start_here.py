"""Exercises of the first steps: what goes in, what a step is, what accuracy is."""

import torch

from resnet_lib.checks.verdicts import check_function, check_number


def numbers_per_image(answer: object) -> None:
    """How many numbers a network gets for one CIFAR-10 image."""
    check_number(
        answer,
        32 * 32 * 3,
        "32 rows × 32 columns × 3 channels. An ImageNet picture of 224 × 224 has 49 times as many.",
        "a count of numbers",
        "the shape of `train.images`: what is each of its axes?",
        {
            32 * 32: "That counts pixels. Each pixel has three numbers: red, green and blue.",
            32 * 3: "That takes one row only; an image has 32 of them.",
            10: "That is the number of classes: what comes out, not what goes in.",
            5000 * 32 * 32 * 3: "That is the whole training set; the question is about one image.",
        },
    )


def steps_per_epoch(answer: object) -> None:
    """How many steps an epoch has: 5,000 images in batches of 64."""
    check_number(
        answer,
        79,
        "78 full batches and one of the 8 images that are left: every image is seen once an epoch.",
        "a count of batches",
        "what happens to the images that do not fill a batch",
        {
            78: "78 full batches hold 4,992 images; what of the other 8?",
            5000 / 64: "A batch is a whole thing: there is no 0.125 of a step. The last batch is just smaller.",
            5000: "That would be one image a step; here 64 images share one.",
            64: "That is the number of images in a batch, not the number of batches.",
        },
    )


def accuracy(function: object) -> None:
    """The reader's accuracy(logits, labels): the share of images whose largest logit is their label's."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 10, generator=generator)
    labels = torch.randint(10, (40,), generator=generator)
    labels[:25] = logits[:25].argmax(1)
    # So that the largest logit of all images is in a column that some labels name.
    logits[0, labels[0]] += 10
    check_function(
        function,
        lambda logits, labels: (logits.argmax(1) == labels).double().mean(),
        [(logits, labels), (logits[:7], labels[:7])],
        "what `argmax(1)` gives for each row of logits",
        "The largest logit is the network's answer; the mean of rights and wrongs is the accuracy.",
        [
            (lambda z, y: (z.argmax(1) == y).sum(), "That is how many images it got right, not their share of all."),
            (lambda z, y: (z.argmax(1) != y).double().mean(), "That is the share it got wrong: the error."),
            (lambda z, y: 100 * (z.argmax(1) == y).double().mean(), "That is in percent; here it is a share, 0 to 1."),
            (lambda z, y: z.argmax(1) == y, "That is a verdict for each image; the question wants one number."),
            (
                lambda z, y: (z.max(1).values == y).double().mean(),
                "`max` gives the largest logit itself; `argmax` gives its position, which is the class.",
            ),
            (
                lambda z, y: (z.argmax() == y).double().mean(),
                "`argmax()` without an axis searches all images at once; `argmax(1)` searches each row.",
            ),
        ],
    )
