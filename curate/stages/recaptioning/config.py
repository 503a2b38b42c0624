"""Configure which captions are written, from which view of a picture, and how words are chosen."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from curate.captioners.captioner import Sampling
from curate.captioners.instructions import TEMPLATES, Template
from curate.captioners.vlm_batches import BatchLimits
from curate.core.errors import ConfigError
from curate.core.latent_column import POOLED
from curate.stages.recaptioning.rows import ALT, ALTERNATE

CROP, WHOLE = "crop", "whole"
_ID = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NO_BYTES = {"fingerprint": False}  # of fields that change no byte of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateConfig:
    """Write an instruction of one's own.

    Args:
        version: raised when the words change.
        text: what the model is asked; {alt} is the alt text, {draft} the draft of `fuse`.
        max_new_tokens: of the answer.
    """

    version: int = 1
    text: str = ""
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooseConfig:
    """Give each picture some of the styles, drawn by its key and the template.

    Args:
        count: styles that a picture gets; 0 gives all.
        weights: of styles, 1 where none is named; at 0 a style is never drawn.
    """

    count: int = 0
    weights: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConfig:
    """Rewrite captions by the pack's rewriter, a language model.

    Args:
        template: what it is asked, with {draft}; the style of what it writes.
        draft: the style whose captions it rewrites.
    """

    template: str = "fused"
    draft: str = "detailed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecaptionConfig:
    """Choose the captions to write.

    Args:
        styles: names from TEMPLATES or `templates`, each written for every kept picture.
        templates: instructions of one's own: style -> version, text, max_new_tokens.
        per_style: captions of a picture in each style; above 1 with a temperature.
        choose: styles for some pictures only.
        sampling: how words are chosen; greedy by default.
        picture: "crop" shows the box that bucket will train on, "whole" the whole picture.
        max_pixels: area shown, at most; what is larger is made smaller, and its size recorded.
            Chosen by us: a megapixel, the area that SDXL and SD3 are trained at.
        fuse: captions to rewrite.
        window: pictures asked about together and journaled together; a kill costs one window.
        batch_size: requests that a model on this machine answers at a time, at most.
        max_batch_tokens: of such a batch: prompts, pictures and answers, at most.
        threads: that decode and cut pictures beside the captioner.
        probe: pictures to try before a run; 0 is a run. See pipelines/probe.py.
        probe_images: pictures that the probe reckons for; 0 for all that are kept.
        gpu_price: of an hour of the machine that captions, in any currency, for the probe.
    """

    styles: list[str] = field(default_factory=lambda: ["short", "detailed"])
    templates: dict[str, TemplateConfig] = field(default_factory=dict[str, TemplateConfig])
    per_style: int = 1
    choose: ChooseConfig = field(default_factory=ChooseConfig)
    sampling: Sampling = field(default_factory=Sampling)
    picture: str = CROP
    max_pixels: int = BatchLimits().max_pixels
    fuse: list[FuseConfig] = field(default_factory=list[FuseConfig])
    window: int = field(default=64, metadata=_NO_BYTES)
    batch_size: int = field(default=BatchLimits().batch_size, metadata=_NO_BYTES)
    max_batch_tokens: int = field(default=BatchLimits().max_batch_tokens, metadata=_NO_BYTES)
    threads: int = field(default=2, metadata=_NO_BYTES)
    probe: int = field(default=0, metadata=_NO_BYTES)
    probe_images: int = field(default=0, metadata=_NO_BYTES)
    gpu_price: float = field(default=0.0, metadata=_NO_BYTES)

    def __post_init__(self) -> None:
        self._check_templates()
        self._check_styles()
        self._check_choice()
        self._check_sampling()
        self._check_fuse()
        self._check_numbers()

    @property
    def limits(self) -> BatchLimits:
        """Give the bounds of a model's batches."""
        return BatchLimits(
            batch_size=self.batch_size,
            max_batch_tokens=self.max_batch_tokens,
            max_pixels=self.max_pixels,
        )

    def known_templates(self) -> Mapping[str, Template]:
        """Give the built-in instructions and those of one's own, by style."""
        own = {
            style: Template(
                id=style, version=one.version, text=one.text, max_new_tokens=one.max_new_tokens
            )
            for style, one in self.templates.items()
        }
        return {**TEMPLATES, **own}

    def used_templates(self) -> list[Template]:
        """Give the instructions that are used, those of `fuse` last."""
        known = self.known_templates()
        return [known[name] for name in (*self.styles, *(one.template for one in self.fuse))]

    def _check_templates(self) -> None:
        for style, one in self.templates.items():
            where = f"recaption.templates.{style}"
            taken = style in (*TEMPLATES, ALT, POOLED) or style.startswith(ALTERNATE)
            if taken or not _ID.fullmatch(style):
                raise ConfigError(
                    f"{where}: must be a name of its own of a-z, 0-9 and _, got {style!r}; "
                    "rename it"
                )
            if not one.text.strip() or one.version < 1 or one.max_new_tokens < 1:
                raise ConfigError(
                    f"{where}: needs a text, a version >= 1 and max_new_tokens >= 1, got "
                    f"{one.text!r}, {one.version} and {one.max_new_tokens}; fix them"
                )

    def _check_styles(self) -> None:
        known = self.known_templates()
        unknown = [style for style in self.styles if style not in known]
        if unknown or not self.styles:
            raise ConfigError(
                f"recaption.styles: must be of {', '.join(known)}, got {self.styles}; fix the names"
            )
        drafts = [style for style in self.styles if known[style].uses_draft]
        if drafts or len(set(self.styles)) < len(self.styles):
            raise ConfigError(
                "recaption.styles: must differ and need no {draft}, got "
                f"{self.styles}; name those that rewrite in recaption.fuse"
            )

    def _check_choice(self) -> None:
        choose = self.choose
        if not 0 <= choose.count <= len(self.styles):
            raise ConfigError(
                f"recaption.choose.count: must be in 0..{len(self.styles)}, the number of styles, "
                f"got {choose.count}; lower it"
            )
        strangers = sorted(set(choose.weights) - set(self.styles))
        bad = [weight for weight in choose.weights.values() if not 0 <= weight < math.inf]
        if strangers or bad:
            raise ConfigError(
                f"recaption.choose.weights: must be >= 0 for styles of recaption.styles, got "
                f"{choose.weights}; fix them"
            )
        if choose.weights and not choose.count:
            raise ConfigError(
                f"recaption.choose.weights: need recaption.choose.count, got {choose.weights} "
                "with count 0; set count=1"
            )
        drawn = sum(choose.weights.get(style, 1) > 0 for style in self.styles)
        if drawn < choose.count:
            raise ConfigError(
                f"recaption.choose.count: must be at most the {drawn} styles with a weight, got "
                f"{choose.count}; lower it"
            )

    def _check_sampling(self) -> None:
        sampling = self.sampling
        checks = {
            "temperature": (0 <= sampling.temperature < math.inf, ">= 0"),
            "top_p": (0 < sampling.top_p <= 1, "in (0, 1]"),
            "repetition_penalty": (0 < sampling.repetition_penalty < math.inf, "> 0"),
            "presence_penalty": (-2 <= sampling.presence_penalty <= 2, "in [-2, 2]"),
        }
        for name, (is_good, rule) in checks.items():
            if not is_good:
                raise ConfigError(
                    f"recaption.sampling.{name}: must be {rule}, got {getattr(sampling, name)}; "
                    "fix it"
                )
        if self.per_style < 1 or (self.per_style > 1 and sampling.temperature == 0):
            raise ConfigError(
                "recaption.per_style: must be >= 1, and above 1 with a temperature, got "
                f"{self.per_style} at temperature {sampling.temperature}; "
                "set recaption.sampling.temperature"
            )

    def _check_fuse(self) -> None:
        known = self.known_templates()
        for one in self.fuse:
            if one.template not in known or not known[one.template].uses_draft:
                able = [style for style, template in known.items() if template.uses_draft]
                raise ConfigError(
                    f"recaption.fuse: template must use {{draft}} ({', '.join(able) or 'none'}), "
                    f"got {one.template!r}; choose one"
                )
            if one.draft not in self.styles:
                raise ConfigError(
                    f"recaption.fuse: draft must be of recaption.styles {self.styles}, got "
                    f"{one.draft!r}; add it there"
                )
        names = [one.template for one in self.fuse]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"recaption.fuse: templates must differ, got {names}; give each a template"
            )

    def _check_numbers(self) -> None:
        if self.picture not in (CROP, WHOLE):
            raise ConfigError(
                f"recaption.picture: must be {CROP} or {WHOLE}, got {self.picture!r}; choose one"
            )
        for name, least in {
            "max_pixels": 1024, "window": 1, "batch_size": 1, "max_batch_tokens": 1, "threads": 1,
            "probe": 0, "probe_images": 0,
        }.items():  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(
                    f"recaption.{name}: must be >= {least}, got {getattr(self, name)}; raise it"
                )
        if not 0 <= self.gpu_price < math.inf:
            raise ConfigError(f"recaption.gpu_price: must be >= 0, got {self.gpu_price}; fix it")
