"""Answers that say only that the model cannot see: told from those that look like them."""

from __future__ import annotations

import pytest

from cambrian_data.curation.rules.cannot_see import only_cannot_see
from cambrian_data.curation.rules.text_counts import counts_of
from cambrian_data.curation.turns import turns_of

BLIND = [
    "I'm sorry, but I cannot see the image you are referring to. Could you please describe it?",
    "I apologize, but I'm unable to view images directly.",
    "As an AI language model, I don't have the ability to see images. Please describe it.",
    "I can\u2019t see any picture here. Please upload it again.",
    "I do not see an image attached to your message.",
    "There is no image provided.",
    "Sorry, no picture was attached.",
    "No image is visible.",
    "It seems that the image did not load. Please try again.",
    "The image you mentioned was not attached.",
    "As a text-based AI model, I am unable to view or analyze images.",
    "I don't have access to the image.",
    "Unfortunately, I am not able to see the picture.",
    "I cannot directly view or interpret visual content such as images.",
    "I didn't receive any photo.",
    "Unfortunately the image failed to load.",
    "I am a language model and cannot see pictures, but I can help if you describe it.",
    "I CAN NOT SEE THE IMAGE.",
]
SEEING = [
    "I cannot see the image clearly, it is too blurry.",
    "There is no cat in this image.",
    "No, the picture does not show a dog.",
    "The person cannot see the picture on the wall because a pillar is in the way.",
    "The image is not available in colour; it shows a black and white street.",
    "There are no images on the wall in the photo.",
    "No image of a cat is shown; it is a dog.",
    "I don't see a dog in the image.",
    "I do not see any people in the picture.",
    "The chart does not include data for 2010.",
    "Yes, I can see the image. It shows a cat.",
    "The file is open in the editor.",
    "I can't see the number of the bus in the picture.",
    "I cannot tell from the picture what brand it is.",
    "The image does not contain any text.",
    "This image is not included in the original series.",
    "No, I can't see any signs in the photo.",
    "I do not have enough information from the image to say.",
    "The photo was not uploaded by the author of the blog in 2012.",
    "The diagram is missing a label on the left.",
    "I cannot see the picture. " + "It is a long story that has little to do with it. " * 6,
    "Unanswerable",
]


def found(table):
    batch = table.combine_chunks().to_batches()[0]
    turns = turns_of(batch)
    return only_cannot_see(batch, turns, counts_of(turns.text))


@pytest.mark.parametrize(("answers", "is_blind"), [(BLIND, True), (SEEING, False)])
def test_answers(samples, sample, answers, is_blind):
    rows = [sample("<image> What is this?", answer, pictures=["a.png"]) for answer in answers]
    answered = found(samples(*rows))[1::2]
    wrong = [text for text, is_so in zip(answers, answered, strict=True) if is_so != is_blind]
    assert wrong == []


def test_questions_and_samples_without_pictures_are_left_alone(samples, sample):
    table = samples(
        sample("What is on my photo?", BLIND[0]),
        sample(f"<image> {BLIND[0]}", "That is a pity.", pictures=["a.png"]),
        sample("<image> What?", "A cat.", "And now?", BLIND[0], pictures=["a.png"]),
    )
    assert found(table).tolist() == [False] * 7 + [True]
