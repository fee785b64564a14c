"""Notebook 09: the readers' tests, tested on code that is sound and on code that is faulty."""

from collections.abc import Callable

from resnet_lib.checks.judging import check_test, is_truth_value
from resnet_lib.checks.suspect_inputs import AUGMENTATIONS, INPUTS, MIXUPS
from resnet_lib.checks.suspect_loops import EVALUATIONS, KEEPERS, LOOPS
from resnet_lib.checks.suspect_nets import ANSWERS, BLOCKS, LEARNERS, STAGES
from resnet_lib.checks.suspect_steps import EPOCHS, LOADERS
from resnet_lib.checks.verdicts import say_not_yet, say_right, say_wrong
from resnet_lib.data import load_cifar10, normalise


def has_own_weights(function: object) -> None:
    """Bug 1, the reader's has_own_weights(make_stage): True if no block shares a weight with another."""
    check_test(
        function,
        STAGES,
        (),
        "Weights grow with the number of blocks, or they are shared.",
        "the parameters of a stage of one block, and of a stage of several",
    )


def answers_alike(function: object) -> None:
    """Bug 2, the reader's answers_alike(network, images): True if in evaluation logits depend on the image alone."""
    check_test(
        function,
        ANSWERS,
        (normalise(load_cifar10("test", "bundled").images[:8]),),
        "One comparison finds all that is random in evaluation, and all that looks at the neighbours.",
        "`network.eval()`, and the logits of one image from two batches that hold it",
    )


def learns_one_batch(function: object) -> None:
    """Bug 3, the reader's learns_one_batch(network, images, labels): True if the loss on one batch comes near 0."""
    data = load_cifar10("test", "bundled")[:8]
    check_test(
        function,
        LEARNERS,
        (normalise(data.images), data.labels),
        "A network whose loss cannot come near 0 on eight images will not bring it there on 50,000.",
        "a short training on this one batch, and its last loss",
    )


def leaves_input_alone(function: object) -> None:
    """Bug 4, the reader's leaves_input_alone(block): True if the block does not change the tensor it is given."""
    check_test(
        function,
        BLOCKS,
        (),
        "Whoever writes into what was handed in changes the numbers of others.",
        "the input before and after, with numbers of both signs in it",
    )


def pixels_in_place(function: object) -> None:
    """Bug 5, the reader's pixels_in_place(to_inputs): True if each number comes from its own pixel and colour."""
    check_test(
        function,
        INPUTS,
        (),
        "A single lit pixel finds every way of mixing up axes.",
        "a black image and one with a single lit pixel: where do the results differ?",
    )


def crops_each_image(function: object) -> None:
    """Bug 6, the reader's crops_each_image(augment, image): True if each image of each batch has its own crop."""
    check_test(
        function,
        AUGMENTATIONS,
        (load_cifar10("test", "bundled").images[1:2],),
        "Copies of one image make a draw visible.",
        "many copies of one image in one batch, and how many different results they have",
    )


def keeps_pairs(function: object) -> None:
    """Bug 7, the reader's keeps_pairs(mixup): True if image and label are mixed with the same partner and share."""
    check_test(
        function,
        MIXUPS,
        (),
        "An image that carries its own label tells whether the two still belong together.",
        "images made from their labels, so that mixed images can be compared with mixed labels",
    )


def counts_images(function: object) -> None:
    """Bug 8, the reader's counts_images(evaluate): True if the accuracy is right for every batch size."""
    check_test(
        function,
        EVALUATIONS,
        (),
        "The size of a batch is a matter of memory, and must not change a result.",
        "an accuracy that you know, and batch sizes that leave some images over",
    )


def trains_in_training_mode(function: object) -> None:
    """Bug 9, the reader's trains_in_training_mode(fit): True if every step of training is in training mode."""
    check_test(
        function,
        LOOPS,
        (),
        "A spy in the network sees what no return value tells.",
        "a module that notes its own `training` whenever it runs",
    )


def keeps_the_best(function: object) -> None:
    """Bug 10, the reader's keeps_the_best(fit_best): True if the network ends as it was when it scored best."""
    check_test(
        function,
        KEEPERS,
        (),
        "With scores that you choose, you know which epoch is the best.",
        "copies of the weights made when `score` is called, and the weights at the end",
    )


def loads_weights(function: object) -> None:
    """Exercise 1, the reader's loads_weights(load): True if load puts everything into the network."""
    check_test(
        function,
        LOADERS,
        (),
        "Save, load, compare everything: the only proof that something was loaded.",
        "two networks that differ, the names of the weights, and `state_dict()` after loading",
    )


def forgets_old_gradients(function: object) -> None:
    """Exercise 2, the reader's forgets_old_gradients(train_epoch): True if a step uses its own batch's gradient."""
    check_test(
        function,
        EPOCHS,
        (),
        "Two lines of your own are the best reference: weight minus rate times gradient.",
        "the weights after two batches, against steps written by hand with `torch.autograd.grad`",
    )


def bug_of_your_own(answer: object) -> None:
    """Exercise 3: (sound, faulty, find), where find is True for what is sound and False for what is faulty."""
    look = "the three parts: what is right, what is wrong, and the test that tells them apart"
    if answer is ...:
        say_not_yet()
        return
    if not isinstance(answer, tuple) or len(answer) != 3 or not callable(answer[2]):
        say_wrong("(sound, faulty, find)", f"{answer!r:.60}", "Two things to judge, and a function that judges.", look)
        return
    sound, faulty, find = answer
    if not _always(find, sound, True, "the sound one", look) or not _always(
        find, faulty, False, "the faulty one", look
    ):
        return
    say_right("It tells them apart, three times out of three. Who has never seen a test fail does not know it can.")


def _always(find: Callable, subject: object, expected: bool, name: str, look: str) -> bool:
    """Whether find gives this for the subject, every time; says what it gave otherwise."""
    for number in range(3):
        try:
            verdict = find(subject)
        except Exception as error:  # whatever the reader's code raised is shown, not passed on
            why = "A test has to survive what it judges: catch the error, and return False."
            say_wrong(f"{expected} for {name}", f"{type(error).__name__}: {error}", why, look)
            return False
        if not is_truth_value(verdict) or bool(verdict) is not expected:
            why = "It gave the right answer before: what is random in it?" if number else "That is the wrong way round."
            if not is_truth_value(verdict):
                why = "A test answers with one truth value, True or False."
            say_wrong(f"{expected} for {name}", f"{verdict!r:.60}", why, look)
            return False
    return True
