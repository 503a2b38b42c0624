"""List the rules that hold a number against thresholds: the column, its range, whose idea it is.

The order is the order of judgement: cheap and certain rules first, so that a reason names the
plainest fault. A new rule is one entry here and its field in `config.FilterConfig`.

Which stage a column is of, says its name (`stages/filtering/columns.py`).
Thresholds themselves stand in the presets, each with its source; here stands what a rule is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Describe one rule.

    Args:
        name: its key in the config and the reason it gives.
        column: what it judges, unless `filter.NAME.column` names another.
        range: lowest and highest threshold that can make sense; outside, it would keep all or none.
        better: which scores are wanted: thresholds by language and `top_frac` bound that side.
        summary: what the column says, with its unit.
        source: where the rule comes from.
    """

    name: str
    column: str
    range: tuple[float, float]
    better: Literal["high", "low"]
    summary: str
    source: str


_DATACOMP = "DataComp basic filter, arXiv 2304.14108, baselines/apply_filter.py"
_COYO = "COYO-700M, README, Data Filtering"

_IN_ORDER = (
    Rule(name="bytes", column="bytes", range=(0, 1e12), better="high",
         summary="size of the file", source=f"{_COYO}; LAION-400M, arXiv 2111.02114, 2.1.1"),
    Rule(name="min_side", column="pixels.min_side_px", range=(0, 1e6), better="high",
         summary="shortest side in pixels", source=f"{_DATACOMP}; {_COYO}"),
    Rule(name="aspect", column="pixels.aspect", range=(1, 1e6), better="low",
         summary="longest side over shortest side", source=f"{_DATACOMP}; {_COYO}"),
    Rule(name="contrast", column="pixels.contrast", range=(0, 255), better="high",
         summary="standard deviation of luminance, 0..255 scale", source="chosen by us: blanks"),
    Rule(name="brightness", column="pixels.brightness", range=(0, 255), better="high",
         summary="mean luminance, 0..255 scale", source="cleanvision, dark and light"),
    Rule(name="entropy", column="pixels.entropy", range=(0, 8), better="high",
         summary="entropy of the luminance histogram, bits",
         source="cleanvision, low_information"),
    Rule(name="flat", column="pixels.flat_frac", range=(0, 1), better="low",
         summary="share of pixels of the most common colour", source="chosen by us: placeholders"),
    Rule(name="uniform", column="pixels.uniform_frac", range=(0, 1), better="low",
         summary="share of pixels near the median colour", source="chosen by us: blanks"),
    Rule(name="grey", column="pixels.grey_frac", range=(0, 1), better="low",
         summary="share of pixels without colour", source="chosen by us"),
    Rule(name="borders", column="pixels.border_frac", range=(0, 1), better="low",
         summary="share of the picture that is uniform border",
         source="chosen by us: letter boxes"),
    Rule(name="colorfulness", column="pixels.colorfulness", range=(0, 1000), better="high",
         summary="spread of opponent colours",
         source="Hasler and Suesstrunk, SPIE 5007, 2003, equation 4"),
    Rule(name="blur", column="pixels.blur", range=(0, 1e6), better="high",
         summary="variance of the Laplacian; LOW is blurred",
         source="Pech-Pacheco et al., ICPR 2000, LAPV; NeMo Curator keeps 100 and more"),
    Rule(name="pdq_quality", column="pdq.quality", range=(0, 100), better="high",
         summary="gradient quality of the PDQ hash",
         source="ThreatExchange, PDQ: hashes of quality 49 and less are discarded"),
    Rule(name="placeholder", column="repeats.captions", range=(0, 1e12), better="low",
         summary="different captions that one picture comes with",
         source="IMGUR5K#10, Recap-DataComp-1B#11: one picture stands for many removed ones"),
    Rule(name="caption_words", column="caption_text.words", range=(0, 1e6), better="high",
         summary="words between white space", source=f"{_DATACOMP}; {_COYO}"),
    Rule(name="caption_characters", column="caption_text.characters", range=(0, 1e7),
         better="high", summary="characters", source=f"{_DATACOMP}; {_COYO}"),
    Rule(name="caption_filename", column="caption_text.is_filename", range=(0, 1), better="low",
         summary="1 when the caption is a file name or URL", source="chosen by us"),
    Rule(name="caption_alpha", column="caption_text.alpha_frac", range=(0, 1), better="high",
         summary="share of letters", source="Gopher, arXiv 2112.11446, table A1"),
    Rule(name="caption_repetition", column="caption_text.repetition", range=(0, 1), better="low",
         summary="share that repeats itself", source="Gopher, arXiv 2112.11446, table A1"),
    Rule(name="latin", column="caption_text.latin_frac", range=(0, 1), better="high",
         summary="share of Latin letters among letters", source="chosen by us"),
    Rule(name="caption_url", column="caption_text.url_frac", range=(0, 1), better="low",
         summary="share of characters in addresses", source="chosen by us"),
    Rule(name="caption_markup", column="caption_text.has_markup", range=(0, 1), better="low",
         summary="1 when the caption holds HTML or the like", source="chosen by us"),
    Rule(name="uppercase", column="caption_text.uppercase_frac", range=(0, 1), better="low",
         summary="share of capital letters among letters", source="chosen by us: shouting"),
    Rule(name="boilerplate", column="caption_text.boilerplate_frac", range=(0, 1), better="low",
         summary="share of the caption in stock phrases",
         source=f"{_COYO}: 'thumbnail for', 'image for', 'picture of'"),
    Rule(name="caption_repeats", column="repeats.texts", range=(0, 1e12), better="low",
         summary="samples with the same caption", source=_COYO),
    Rule(name="caption_near_repeats", column="repeats.near_texts", range=(0, 1e12), better="low",
         summary="samples with nearly the same caption",
         source=f"chosen by us, after {_COYO}"),
    Rule(name="caption_number", column="repeats.text_number", range=(0, 1e12), better="low",
         summary="which one it is of the samples with the same caption, in drawn order",
         source="chosen by us: keeps some of a repeated caption"),
    Rule(name="nouns", column="caption_text.nouns", range=(0, 1e6), better="high",
         summary="number of nouns", source=_COYO),
    Rule(name="toxicity_terms", column="toxicity.num_terms", range=(0, 1e6), better="low",
         summary="words on the list", source=f"{_COYO}: three word lists"),
    Rule(name="toxicity", column="toxicity.score", range=(0, 1), better="low",
         summary="probability", source="dataset2metadata measures detoxify multilingual"),
    Rule(name="language_score", column="language.score", range=(0, 1), better="high",
         summary="confidence of the language",
         source="CCNet, arXiv 1911.00359, keeps 0.5 and more"),
    Rule(name="text_area", column="text_area.frac", range=(0, 1), better="low",
         summary="share of the picture covered by text", source="T-MARS, arXiv 2307.03132"),
    Rule(name="text_overlay", column="text_overlay.score", range=(0, 1), better="low",
         summary="probability of text laid over the picture", source="chosen by us"),
    Rule(name="caption_overlap", column="ocr.caption_overlap", range=(0, 1), better="low",
         summary="share of the caption that is written in the picture",
         source="T-MARS, arXiv 2307.03132; Radenovic et al., arXiv 2301.02280, text spotting"),
    Rule(name="faces", column="faces.count", range=(0, 1e4), better="low",
         summary="number of faces", source="Data-Juicer, image_face_count_filter"),
    Rule(name="face_area", column="faces.area_frac", range=(0, 1), better="low",
         summary="share of the picture covered by faces",
         source="Data-Juicer, image_face_ratio_filter"),
    Rule(name="watermark", column="watermark.score", range=(0, 1), better="low",
         summary="probability", source="LAION-5B, arXiv 2210.08402, pwatermark"),
    Rule(name="nsfw", column="nsfw.score", range=(0, 1), better="low",
         summary="probability", source="LAION-5B, arXiv 2210.08402, punsafe"),
    Rule(name="similarity", column="clip.similarity", range=(-1, 1), better="high",
         summary="cosine of picture and caption; scales differ between models",
         source="LAION-400M, arXiv 2111.02114, 2.1.1"),
    Rule(name="aesthetic", column="aesthetic.score", range=(-10, 20), better="high",
         summary="score of the pack's head; v1 and v2 are different scales",
         source="LAION-Aesthetics, laion-datasets, laion-aesthetic.md"),
)  # fmt: skip

RULES: Mapping[str, Rule] = {rule.name: rule for rule in _IN_ORDER}
