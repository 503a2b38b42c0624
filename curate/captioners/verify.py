"""Check what a caption claims: by the yes and no of a second model, or by a detector's classes.

    caption -> claims -> one question each -> second captioner -> yes or no -> share confirmed
    caption -> objects that it names -> those that a detector finds -> share confirmed

Claims are cut out by rules: sentences, and within them the parts that an article or a number opens
("a man with a red hat and two dogs" are three). That takes English; a caption of another language
is asked about sentence by sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.captioners.captioner import Captioner, CaptionRequest, Sampling
from curate.captioners.instructions import Template
from curate.captioners.sentences import split_sentences

if TYPE_CHECKING:
    from PIL import Image

# Chosen by us: a detailed caption of six sentences makes about ten.
MAX_CLAIMS = 12
# Chosen by us: a longer "claim" is no claim, and would not fit into a question.
MAX_CLAIM_CHARACTERS = 400

# The yes/no form of hallucination benchmarks. Source: POPE (Li et al. 2023, arXiv 2305.10355),
# which asks "Is there a <object> in the image?"; here a whole claim is asked about.
QUESTION = Template(
    id="verify",
    version=1,
    text='Look at the image. Is this true of it: "{draft}"? Answer with yes or no.',
    max_new_tokens=8,
)
GREEDY = Sampling()

_DETERMINER = (
    r"(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|\d+|several|some|many|another|"
    r"other|his|her|their|its)\b"
)
_JOINT = re.compile(
    rf"\s*;\s*|,?\s+(?:and|while|with|next to|alongside)\s+(?={_DETERMINER})|,\s+(?={_DETERMINER})",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def extract_claims(text: str) -> list[str]:
    """Cut a caption into claims that can be asked about one by one, at most `MAX_CLAIMS`.

    >>> extract_claims("A man with a red hat and two dogs. It rains.")
    ['A man', 'a red hat', 'two dogs', 'It rains']
    """
    claims: dict[str, None] = {}
    for sentence in split_sentences(text[: MAX_CLAIMS * MAX_CLAIM_CHARACTERS]):
        for part in _JOINT.split(sentence):
            claim = part.strip(" \t\n.,;:!")
            if claim and len(claim) <= MAX_CLAIM_CHARACTERS:
                claims[claim] = None
    return list(claims)[:MAX_CLAIMS]


def read_answer(text: str) -> bool | None:
    """Read yes or no off the start of an answer; None if it is neither."""
    found = _ANSWER.match(text)
    return None if found is None else found[1].lower() == "yes"


class Verifier:
    """Ask a second model about each claim of a caption.

    Args:
        captioner: another model than the one that wrote the captions, or it confirms itself.
        template: the question; {draft} stands for the claim.
    """

    def __init__(self, captioner: Captioner, template: Template = QUESTION) -> None:
        assert template.uses_draft, "a question without the claim asks nothing"
        self._captioner = captioner
        self._template = template

    def confirm(
        self, images: Sequence[Image.Image], texts: Sequence[str], keys: Sequence[str]
    ) -> NDArray[np.float32]:
        """Measure the share of each text's claims that are confirmed.

        Args:
            images: RGB, one for each text.
            texts: clean captions.
            keys: of the samples, for messages.

        Returns:
            [N], float32, 0..1; NaN where no question was answered by yes or no.
        """
        requests: list[CaptionRequest] = []
        owners: list[int] = []
        for number, (image, text, key) in enumerate(zip(images, texts, keys, strict=True)):
            for claim in extract_claims(text):
                requests.append(self._request(key, image, claim))
                owners.append(number)
        answers = self._captioner.caption(requests, GREEDY) if requests else []
        answered = np.zeros(len(texts), np.float32)
        confirmed = np.zeros(len(texts), np.float32)
        for number, answer in zip(owners, answers, strict=True):
            is_true = None if answer.finish_reason == "error" else read_answer(answer.text_raw)
            answered[number] += is_true is not None
            confirmed[number] += is_true is True
        return _shares(confirmed, answered)

    def _request(self, key: str, image: Image.Image, claim: str) -> CaptionRequest:
        return CaptionRequest(key=key, image=image, template=self._template, draft=claim)


class Detector(Protocol):
    """Find objects of fixed classes in pictures."""

    @property
    def words(self) -> Mapping[str, str]:
        """Give the words that name a class, lower case, singular: word -> class.

        Synonyms are words of one class: {"dog": "dog", "puppy": "dog"}.
        """
        ...

    def find(self, images: Sequence[Image.Image]) -> Sequence[frozenset[str]]:
        """Name the classes that are in each RGB picture."""
        ...


def name_objects(text: str, words: Mapping[str, str]) -> frozenset[str]:
    """Find the classes whose words stand in a text, in singular or regular plural.

    >>> sorted(name_objects("Two puppies beside a bus", {"puppy": "dog", "bus": "bus"}))
    ['bus', 'dog']
    """
    tokens = re.findall(r"\w+", text.lower())
    longest = max((word.count(" ") + 1 for word in words), default=0)
    found: set[str] = set()
    for length in range(1, longest + 1):
        for start in range(len(tokens) - length + 1):
            phrase = " ".join(tokens[start : start + length])
            found |= {words[form] for form in _singulars(phrase) if form in words}
    return frozenset(found)


def confirm_objects(
    detector: Detector, images: Sequence[Image.Image], texts: Sequence[str]
) -> NDArray[np.float32]:
    """Measure the share of the objects named in each text that the detector finds.

    That is 1 - CHAIR_i of a single caption. Source: Rohrbach et al. 2018, arXiv 1809.02156,
    section 2.1, with the detector in place of the gold objects.

    Returns:
        [N], float32, 0..1; NaN where a text names no class of the detector.
    """
    named = [name_objects(text, detector.words) for text in texts]
    found = detector.find(images) if texts else []
    confirmed = [len(own & seen) for own, seen in zip(named, found, strict=True)]
    return _shares(np.array(confirmed, np.float32), np.array([len(n) for n in named], np.float32))


def _shares(part: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide [N] by [N]; NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan, np.float32), where=whole > 0)


def _singulars(phrase: str) -> list[str]:
    """Give a phrase and what it may be the regular English plural of."""
    forms = [phrase]
    forms += [phrase[:-1]] if phrase.endswith("s") else []
    forms += [phrase[:-2]] if phrase.endswith("es") else []
    forms += [phrase[:-3] + "y"] if phrase.endswith("ies") else []
    return forms
